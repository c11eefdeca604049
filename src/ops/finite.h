/* finite: is there an infinity or a NaN in x? found[0] becomes 1 if so, and is
 * left alone otherwise (the caller clears it once a step).
 *
 * And how many numbers left the range of x's type? `extremes` is added to:
 *   [0]  elements that are not finite (overflow)
 *   [1]  elements, not 0, with |x| below hb_underflow_bound (core/dtype.h) of x's type
 *        (underflow)
 *
 * Shapes: x any; found i32 [1]; extremes i64 [2]. One of the two may be left out. */
#ifndef HB_OPS_FINITE_H
#define HB_OPS_FINITE_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_finite_args {
    struct hb_tensor x;
    struct hb_tensor found;    /* i32 [1], or-ed; data NULL: not asked */
    struct hb_tensor extremes; /* i64 [2], added to; data NULL: not asked */
};

HB_MUST_USE hb_status hb_finite(struct hb_context *context, const struct hb_finite_args *args);

#endif
