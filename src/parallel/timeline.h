/* The timeline: what each rank really did and when, for a look at it in Perfetto (ui.perfetto.dev) or
 * chrome://tracing.
 *
 * Every rank writes RUN/timeline/rank-NNNNN.jsonl, a line an event, while it runs; hb_timeline_merge makes one
 * RUN/timeline.json of them. Times are of the machine's monotonic clock (hb_clock_now), counted from an origin that
 * the ranks agree on: on several machines the origin is taken right behind a barrier, and what is left of
 * difference is the barrier's.
 *
 * All functions allow a NULL timeline and then do nothing: a run without one pays a comparison. */
#ifndef HB_PARALLEL_TIMELINE_H
#define HB_PARALLEL_TIMELINE_H

#include <stdint.h>

#include "core/status.h"

enum hb_span_kind {
    HB_SPAN_COMPUTE,    /* F, I, W, B, optimizer, digest: the rank works */
    HB_SPAN_WAIT,       /* for a message or another rank */
    HB_SPAN_COLLECTIVE, /* gather, exchange, reduction: bytes move, and the rank takes part */
    HB_SPAN_MESSAGE,    /* a send from its start to its end; on a track of its own, the rank does other things */
    HB_SPAN_OTHER,      /* data, evaluation, checkpoint */
    HB_SPAN_KINDS
};

struct hb_timeline;

/* Makes RUN/timeline/rank-NNNNN.jsonl anew. `place` ("dp 0, ep 1, pp 2") goes into the name of the rank's
 * track. Until hb_timeline_origin the origin is now. Not collective. */
HB_MUST_USE hb_status hb_timeline_create(const char *run_folder, int rank, const char *place,
                                         struct hb_timeline **out);
/* Writes what is buffered, and closes. HB_EIO if an event could not be written. NULL is allowed. */
HB_MUST_USE hb_status hb_timeline_destroy(struct hb_timeline *timeline);

/* From now on times are counted from `seconds` of hb_clock_now: call it right behind a barrier. */
void hb_timeline_origin(struct hb_timeline *timeline, double seconds);

/* The step that runs, from 1; stands in every event. */
void hb_timeline_step(struct hb_timeline *timeline, int64_t step);

/* One span. `name` ("0F3", "gather model.layers.2") is copied; `bytes` moved, 0: none; begin and end of
 * hb_clock_now. Spans of one rank may lie in one another; MESSAGE spans may overlap. */
void hb_timeline_span(struct hb_timeline *timeline, enum hb_span_kind kind, const char *name, double begin, double end,
                      int64_t bytes);

/* Seconds of this rank by kind, of outermost spans as they were given. */
struct hb_timeline_totals {
    double seconds[HB_SPAN_KINDS];
    int64_t spans, bytes;
};
struct hb_timeline_totals hb_timeline_totals(const struct hb_timeline *timeline);

/* Puts the events of all ranks that RUN/timeline holds into RUN/timeline.json. Lines that a crash cut short are
 * left out. Not collective: one process calls it, when the others have closed theirs. */
HB_MUST_USE hb_status hb_timeline_merge(const char *run_folder);

#endif
