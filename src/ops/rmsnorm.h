/* rmsnorm: root-mean-square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4).
 *
 * Forward, per row of D elements:
 *   r = 1 / sqrt(dot(x, x) / D + eps)        y_i = (x_i r) w_i
 * Backward:
 *   c = ((r r) dot(dy w, x)) / D             dx_i = r fmaf(-x_i, c, dy_i w_i)
 *   dw_i = sum over rows of (dy_i (x_i r))
 *
 * Bits: dot is 32 lanes and a tree (numerics.md rule 3; the factor dy_i w_i is
 * rounded first); the column sum is rule 4: chunks of 64 rows, chain inside
 * fmaf(dy_i, x_i r, sum) from +0, chunk sums by the tree. No rows: STORE
 * writes +0, ADD changes nothing.
 * The parenthesised expressions of src/ref/rmsnorm.c are normative.
 *
 * Shapes: x, y, dy, dx [n,D]; weight [D]; rstd fp32 [n] (r, saved by forward);
 * dweight fp32 [D]. y may be x, dx may be dy, where their elements have the same
 * size. Bytes: forward 2 n D, backward input 3 n D, weight 2 n D elements. */
#ifndef HB_OPS_RMSNORM_H
#define HB_OPS_RMSNORM_H

#include "core/status.h"
#include "core/tensor.h"
#include "ops/product.h"

struct hb_context;

struct hb_rmsnorm_forward_args {
    struct hb_tensor x;      /* [n,D] */
    struct hb_tensor weight; /* [D] */
    struct hb_tensor y;      /* [n,D] */
    struct hb_tensor rstd;   /* fp32 [n] */
    float eps;
};

struct hb_rmsnorm_backward_input_args {
    struct hb_tensor x;      /* [n,D] */
    struct hb_tensor weight; /* [D] */
    struct hb_tensor rstd;   /* fp32 [n] */
    struct hb_tensor dy;     /* [n,D] */
    struct hb_tensor dx;     /* [n,D], stored */
};

struct hb_rmsnorm_backward_weight_args {
    struct hb_tensor x;       /* [n,D] */
    struct hb_tensor rstd;    /* fp32 [n] */
    struct hb_tensor dy;      /* [n,D] */
    struct hb_tensor dweight; /* fp32 [D] */
    enum hb_product_epilogue epilogue; /* STORE, or ADD: dweight + sum */
};

HB_MUST_USE hb_status hb_rmsnorm_forward(struct hb_context *context,
                                         const struct hb_rmsnorm_forward_args *args);
HB_MUST_USE hb_status hb_rmsnorm_backward_input(struct hb_context *context,
                                                const struct hb_rmsnorm_backward_input_args *args);
HB_MUST_USE hb_status hb_rmsnorm_backward_weight(struct hb_context *context,
                                                 const struct hb_rmsnorm_backward_weight_args *args);

#endif
