/* A picture of a schedule: one row per rank, time to the right, a box an action. */
#ifndef HB_PARALLEL_SCHEDULE_SVG_H
#define HB_PARALLEL_SCHEDULE_SVG_H

#include "parallel/simulate.h"

/* `unit`: what a time of 1 is ("s", "" for none). The caller free()s the text. */
HB_MUST_USE hb_status hb_schedule_svg(const struct hb_schedule *schedule,
                                      const struct hb_simulation *simulation, const char *unit, char **text);

#endif
