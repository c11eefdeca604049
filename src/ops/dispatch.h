/* dispatch: token rows to their experts, dropless.
 *
 * plan:     pairs (t, j), numbered t K + j, sorted by expert, then by number
 *           (numerics.md rule 15). offsets[e] = first row of expert e;
 *           pair_of[r] = pair at row r; row_of[pair] = its row.
 * forward:  rows[r] = x[pair_of[r] / K]
 * backward: dx[t] = sum over slots j ascending of drows[row_of[t K + j]], the
 *           first one starting the sum, fp32 (rule 2). The router's own part is
 *           added afterwards by a product with the ADD epilogue.
 *
 * An expert in `index` is in [0, E), a row in `row_of` in [0, n K), as the router
 * and plan make them: they are not checked. Where rows has another dtype than x,
 * it is here that they are rounded, not on their way. n K < 2^31, K >= 1. No aliasing.
 *
 * Shapes: index i32 [n,K]; offsets i32 [E+1]; row_of i32 [n,K]; pair_of i32 [n K];
 * x, dx [n,C]; rows, drows [n K, C]. */
#ifndef HB_OPS_DISPATCH_H
#define HB_OPS_DISPATCH_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_dispatch_plan_args {
    struct hb_tensor index;   /* i32 [n,K] */
    struct hb_tensor offsets; /* i32 [E+1], stored */
    struct hb_tensor row_of;  /* i32 [n,K], stored */
    struct hb_tensor pair_of; /* i32 [n K], stored */
};

struct hb_dispatch_forward_args {
    struct hb_tensor x;       /* [n,C] */
    struct hb_tensor pair_of; /* i32 [n K] */
    struct hb_tensor rows;    /* [n K,C] */
};

struct hb_dispatch_backward_args {
    struct hb_tensor drows;  /* [n K,C] */
    struct hb_tensor row_of; /* i32 [n,K] */
    struct hb_tensor dx;     /* [n,C], stored */
};

HB_MUST_USE hb_status hb_dispatch_plan(struct hb_context *context, const struct hb_dispatch_plan_args *args);
HB_MUST_USE hb_status hb_dispatch_forward(struct hb_context *context,
                                          const struct hb_dispatch_forward_args *args);
HB_MUST_USE hb_status hb_dispatch_backward(struct hb_context *context,
                                           const struct hb_dispatch_backward_args *args);

#endif
