/* Which tensor of a piece of work is the first that is not finite?
 *
 * A context whose trace carries a `struct hb_nonfinite` has every call of an op
 * looked at, before it (what it reads) and after it (what it writes), instead of
 * written down. Slow: every tensor crosses to the host.
 *
 * First is not what a schedule happens to come to first, so that the answer is one
 * rank's in every layout: the first microbatch; in it the forward pass, then
 * backward; blocks in the order of the pass; in a block's backward, gradients of
 * inputs before those of weights; then the order of the calls. */
#ifndef HB_OPS_NONFINITE_H
#define HB_OPS_NONFINITE_H

#include "ops/trace.h"

enum { HB_NONFINITE_KEY = 5 };

struct hb_nonfinite {
    bool found; /* the rest is valid; calls that come later in the order are not looked at any more */
    int64_t key[HB_NONFINITE_KEY]; /* its place in the order, lexicographic */
    int64_t microbatch; /* -1: none */
    struct hb_trace_place place;
    const char *pass, *op, *argument; /* "forward", "product", "out" */
    bool read;                        /* it came into the call that way */
    char tensor[96], name[224];       /* "f32[37,40]"; "weights of lm_head.weight" or "" */
    int64_t element;
    double value;
};

/* Looks through what the call reads or writes; for the trace. */
HB_MUST_USE hb_status hb_nonfinite_look(struct hb_context *context, const char *op, const void *args,
                                        enum hb_op_use use);

/* Does `key` come before that of *found? Also if nothing was found. */
bool hb_nonfinite_before(const int64_t *key, const struct hb_nonfinite *found);

/* A sentence on it into `text`. */
void hb_nonfinite_describe(const struct hb_nonfinite *found, char *text, size_t size);

#endif
