/* clip: the global gradient norm and the clipping factor
 * (Pascanu et al. 2013, arXiv 1211.5063; PyTorch's clip_grad_norm_).
 *
 *   norm = sqrt(sum of squares[order[i]], i ascending from +0)      fp64
 *   coef = fp32(min(1, max_norm / (norm + 1e-6)))            max_norm <= 0: coef = 1
 * `order` takes the logical tensors in bytewise name order (rule 21), wherever
 * their sums stand in `squares`; without it they stand in that order already.
 * What is not finite stays visible: a NaN among the squares makes norm and coef
 * NaN; an infinite one makes norm infinite and coef 0, so that the infinite
 * gradient itself becomes NaN; with max_norm <= 0 coef is 1 in any case. (The
 * finite check comes before and skips such a step.) A NaN max_norm is refused.
 *
 * Shapes: squares fp64 [n]; order i32 [n], each in [0, n); norm fp64 [1]; coef fp32 [1]. */
#ifndef HB_OPS_CLIP_H
#define HB_OPS_CLIP_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_clip_args {
    struct hb_tensor squares; /* fp64 [n] */
    struct hb_tensor order;   /* i32 [n]; data NULL: ascending */
    float max_norm;
    struct hb_tensor norm;
    struct hb_tensor coef;
};

HB_MUST_USE hb_status hb_clip(struct hb_context *context, const struct hb_clip_args *args);

#endif
