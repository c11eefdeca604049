/* sum: sums and sums of squares in fp64, for the gradient norm and for reports.
 *
 * x is a stack of G equal logical tensors. Per logical tensor: chunks of 4096
 * elements, rule 3 in fp64 inside a chunk (32 lanes, tree), chunk sums by the
 * fold tree (numerics.md rule 21). With `squares` a lane does fma(v, v, lane),
 * else lane + v, where v = (double)(x * factor), the product in fp32.
 *
 * `found` (optional): becomes 1 if x holds an infinity or a NaN and is left alone
 * otherwise, as by the op finite: the gradients of a step are read once for both.
 *
 * `extremes` (optional) is added to, also for the gradients of a step:
 *   [0]  elements that are not finite (overflow)
 *   [1]  elements, not 0, with |x| below hb_underflow_bound (core/dtype.h) of x's type
 *        or |x * factor| below that of fp32: digits may be lost (underflow)
 *
 * Shapes: x (fp64 in ref's double form), count a multiple of G;
 * out fp64 [G], stored; found i32 [1]; extremes i64 [2]. */
#ifndef HB_OPS_SUM_H
#define HB_OPS_SUM_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_sum_args {
    struct hb_tensor x;
    bool squares;
    float factor;              /* 1 / loss scale for gradients (a power of two), else 1 */
    struct hb_tensor out;      /* fp64 [G] */
    struct hb_tensor found;    /* i32 [1], or-ed; data NULL: not asked */
    struct hb_tensor extremes; /* i64 [2], added to; data NULL: not asked */
};

/* What counts as underflow: 0 < |x| < this, rounded to fp32. */
static inline double hb_sum_underflow_bound(const struct hb_sum_args *args)
{
    double factor = args->factor < 0 ? -(double)args->factor : (double)args->factor;
    double before = hb_underflow_bound(args->x.dtype);
    double after = hb_underflow_bound(args->x.dtype == HB_F64 ? HB_F64 : HB_F32) / factor;
    return after > before ? after : before;
}

HB_MUST_USE hb_status hb_sum(struct hb_context *context, const struct hb_sum_args *args);

#endif
