/* Which tensor of a piece of work is the first that is not finite?
 *
 * A context whose trace carries a `struct hb_nonfinite` has every call of an op
 * looked at, before it (what it reads) and after it (what it writes), instead of
 * written down. Slow: every tensor crosses to the host. */
#ifndef HB_OPS_NONFINITE_H
#define HB_OPS_NONFINITE_H

#include "ops/trace.h"

struct hb_nonfinite {
    bool found; /* the rest is valid; later calls are not looked at any more */
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

/* A sentence on it into `text`. */
void hb_nonfinite_describe(const struct hb_nonfinite *found, char *text, size_t size);

#endif
