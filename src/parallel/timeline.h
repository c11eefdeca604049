/* The timeline: what each rank really did and when, for a look at it in Perfetto (ui.perfetto.dev) or
 * chrome://tracing.
 *
 * Every rank writes RUN/timeline/rank-NNNNN.jsonl, a line an event, while it runs; hb_timeline_merge makes
 * one RUN/timeline.json of them. Times are of the machine's monotonic clock (hb_clock_now), counted from an
 * origin that the ranks agree on: on several machines the origin is taken right behind a barrier, and what is
 * left of difference is the barrier's.
 *
 * All functions allow a NULL timeline and then do nothing: a run without one pays a comparison. */
#ifndef HB_PARALLEL_TIMELINE_H
#define HB_PARALLEL_TIMELINE_H

#include <stdint.h>

#include "core/status.h"
#include "parallel/footprint.h"

enum hb_span_kind {
    HB_SPAN_COMPUTE, /* forward, backward, update, digest: the rank works */
    HB_SPAN_EXPERTS, /* rows to experts and back */
    HB_SPAN_GATHER,  /* of weights */
    HB_SPAN_REDUCE,  /* of gradients */
    HB_SPAN_AGREE,   /* counts, maxima, the norm: what all ranks must know */
    HB_SPAN_WAIT,    /* for a message of another stage */
    /* a send from its start to its end; on a track of its own, as the rank does other things */
    HB_SPAN_MESSAGE,
    HB_SPAN_OTHER,   /* data, evaluation, checkpoint, what is left of a step */
    HB_SPAN_KINDS
};
const char *hb_span_kind_name(enum hb_span_kind kind);

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

/* One span, of hb_clock_now; `name` ("wait for rank 2") is copied. What moved, and seconds waited;
 * 0: none. */
void hb_timeline_span(struct hb_timeline *timeline, enum hb_span_kind kind, const char *name, double begin,
                      double end, int64_t messages, int64_t bytes, double waited);

/* How many tokens of a microbatch chose each expert of a layer, counted among the layers with experts:
 * counts [experts]. An event without duration; parallel/routing.h reads it. */
void hb_timeline_routing(struct hb_timeline *timeline, int64_t microbatch, int64_t layer,
                         const int64_t *counts, int64_t experts);

/* The most bytes of the step, by category: a counter. */
void hb_timeline_memory(struct hb_timeline *timeline, const int64_t bytes[HB_FOOTPRINTS]);

/* A span that others lie in: what between begin and end is given by the call above, or by another begin and
 * end, is not counted for it in the totals. At most HB_SPANS_DEEP. */
enum { HB_SPANS_DEEP = 8 };
void hb_timeline_begin(struct hb_timeline *timeline);
void hb_timeline_end(struct hb_timeline *timeline, enum hb_span_kind kind, const char *name);

/* From now on all that comm does stands in it; NULL: no longer. */
void hb_timeline_observe(struct hb_timeline *timeline);

/* Seconds of this rank by kind, each second once; MESSAGE beside the others. */
struct hb_timeline_totals {
    double seconds[HB_SPAN_KINDS];
    int64_t spans, bytes;
};
struct hb_timeline_totals hb_timeline_totals(const struct hb_timeline *timeline);

/* Puts the events of all ranks that RUN/timeline holds into RUN/timeline.json. Lines that a crash cut short
 * are left out. Not collective: one process calls it, when the others have closed theirs. */
HB_MUST_USE hb_status hb_timeline_merge(const char *run_folder);

#endif
