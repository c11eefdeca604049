/* combine: expert rows back to their tokens, weighted.
 *
 * Forward:  y = +0, then for slots j ascending y = fmaf(weight_j, rows[row_of_j], y)
 *           (numerics.md rule 15).
 * Backward: drows[row_of_j] = weight_j dy;  dweight_j = dot(dy, rows[row_of_j]).
 *
 * Shapes: rows, drows [n K, C]; row_of i32 [n,K]; weight, dweight fp32 [n,K];
 * y, dy [n,C]. drows may be rows if their elements have the same size. */
#ifndef HB_OPS_COMBINE_H
#define HB_OPS_COMBINE_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_combine_forward_args {
    struct hb_tensor rows;   /* [n K,C] */
    struct hb_tensor row_of; /* i32 [n,K] */
    struct hb_tensor weight; /* fp32 [n,K] */
    struct hb_tensor y;      /* [n,C] */
};

struct hb_combine_backward_args {
    struct hb_tensor rows;    /* [n K,C] */
    struct hb_tensor row_of;  /* i32 [n,K] */
    struct hb_tensor weight;  /* fp32 [n,K] */
    struct hb_tensor dy;      /* [n,C] */
    struct hb_tensor drows;   /* [n K,C], stored */
    struct hb_tensor dweight; /* fp32 [n,K], stored */
};

HB_MUST_USE hb_status hb_combine_forward(struct hb_context *context,
                                         const struct hb_combine_forward_args *args);
HB_MUST_USE hb_status hb_combine_backward(struct hb_context *context,
                                          const struct hb_combine_backward_args *args);

#endif
