/* The segments of an attention call cut into pieces for threads, longest work
 * first, so that the last piece to finish is a short one. */
#ifndef HB_CPU_ATTENTION_PLAN_H
#define HB_CPU_ATTENTION_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "core/tensor.h"
#include "ops/backend.h"

/* Positions count from the segment's key 0. */
struct segment {
    int64_t q_row;  /* row of q that stands at position `first` */
    int64_t k_row;  /* row of k at position 0 */
    int64_t ring;   /* 0, or rows of k in which the positions from `sinks` on go round */
    int64_t sinks;
    int64_t first;  /* queries stand at first .. length - 1 */
    int64_t length; /* keys stand at 0 .. length - 1 */
};

static inline struct segment segment_at(const struct hb_tensor *q_begin, const struct hb_tensor *k_begin,
                                        int64_t s)
{
    const int32_t *q = (const int32_t *)q_begin->data + s, *k = (const int32_t *)k_begin->data + s;
    int64_t length = k[1] - k[0];
    return (struct segment){.q_row = q[0], .k_row = k[0], .first = length - (q[1] - q[0]), .length = length};
}

/* Piece `index` of a segment: positions [index unit, (index + 1) unit). */
struct piece {
    int32_t segment, index;
};

struct plan {
    int64_t segments;
    int64_t pieces;
    int64_t indices;     /* 1 + the largest index */
    double pairs;        /* of visible query and key */
    struct piece *piece; /* [pieces] */
    int64_t *start;      /* [indices + 1] for sorting */
};

static inline struct plan plan_of(const struct hb_tensor *q_begin, const struct hb_tensor *k_begin,
                                  int64_t unit)
{
    struct plan plan = {.segments = q_begin->shape[0] - 1};
    for (int64_t t = 0; t < plan.segments; t++) {
        struct segment s = segment_at(q_begin, k_begin, t);
        if (s.first == s.length)
            continue;
        int64_t end = (s.length - 1) / unit + 1;
        plan.pieces += end - s.first / unit;
        plan.indices = end > plan.indices ? end : plan.indices;
        plan.pairs += (double)(s.length - s.first) * (double)(s.first + 1 + s.length) / 2;
    }
    return plan;
}

/* Cuts `bytes` off the workspace at *at, 64-byte aligned; *at == NULL only counts. */
static inline void *take(char **at, size_t *used, size_t bytes)
{
    void *memory = *at ? *at + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return memory;
}

static inline void plan_in(struct plan *plan, char **at, size_t *used)
{
    plan->piece = take(at, used, (size_t)plan->pieces * sizeof *plan->piece);
    plan->start = take(at, used, (size_t)(plan->indices + 1) * sizeof *plan->start);
}

/* Lists every piece, by index ascending or descending, segments ascending among equals. */
static inline void plan_sort(const struct plan *plan, const struct hb_tensor *q_begin,
                             const struct hb_tensor *k_begin, int64_t unit, bool descending)
{
    for (int64_t i = 0; i <= plan->indices; i++)
        plan->start[i] = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t t = 0; t < plan->segments; t++) {
            struct segment s = segment_at(q_begin, k_begin, t);
            for (int64_t i = s.first / unit; s.first < s.length && i <= (s.length - 1) / unit; i++) {
                int64_t rank = descending ? plan->indices - 1 - i : i;
                if (pass == 0)
                    plan->start[rank + 1]++;
                else
                    plan->piece[plan->start[rank]++] = (struct piece){(int32_t)t, (int32_t)i};
            }
        }
        for (int64_t i = 0; pass == 0 && i < plan->indices; i++)
            plan->start[i + 1] += plan->start[i];
    }
}

/* Below this many multiplications waking threads costs more than they save. */
static inline int attention_threads(const struct hb_context *context, double multiplications)
{
    return multiplications < 262144 ? 1 : context->threads;
}

#endif
