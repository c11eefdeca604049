/* The router's choices in a step of a run, as its timeline has them: which expert got how many tokens. They
 * are the same in every layout, so those of a run on one rank say what any layout will send. */
#ifndef HB_PARALLEL_ROUTING_H
#define HB_PARALLEL_ROUTING_H

#include <stdint.h>

#include "core/status.h"

struct hb_routed {
    int64_t microbatches, layers, experts; /* M of the step; layers with experts; E */
    int64_t *counts;                       /* [M, layers, E], owned */
};

/* Step `step` of RUN/timeline.json. HB_EFORMAT: it has no such step, or a step of another shape. */
HB_MUST_USE hb_status hb_routing_load(const char *run_folder, int64_t step, int64_t microbatches,
                                      int64_t layers, int64_t experts, struct hb_routed *out);
void hb_routing_release(struct hb_routed *routing);

/* Tokens of microbatch m that chose experts [begin, end) of a layer. */
int64_t hb_routing_rows(const struct hb_routed *routing, int64_t m, int64_t layer, int64_t begin,
                        int64_t end);

#endif
