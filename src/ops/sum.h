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
 * Shapes: x (fp64 in ref's double form), count a multiple of G;
 * out fp64 [G], stored; found i32 [1]. */
#ifndef HB_OPS_SUM_H
#define HB_OPS_SUM_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_sum_args {
    struct hb_tensor x;
    bool squares;
    float factor;         /* 1 / loss scale for gradients (a power of two), else 1 */
    struct hb_tensor out;   /* fp64 [G] */
    struct hb_tensor found; /* i32 [1], or-ed; data NULL: not asked */
};

HB_MUST_USE hb_status hb_sum(struct hb_context *context, const struct hb_sum_args *args);

#endif
