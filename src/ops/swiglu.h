/* swiglu: gated activation (Shazeer 2020, arXiv 2002.05202, eq. 6, without the products).
 *
 * Forward:  s = sigmoid(gate);  out = (gate s) up
 * Backward: dup = dout (gate s);  dgate = (dout up) (s (1 + gate (1 - s)))
 *           with 1 + gate (1 - s) = fmaf(gate, 1 - s, 1).
 *
 * Shapes: all alike, any rank. out may be gate or up, dgate may be gate and dup
 * may be up, where their elements have the same size. Bytes: forward 3, backward 5 elements each. */
#ifndef HB_OPS_SWIGLU_H
#define HB_OPS_SWIGLU_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_swiglu_forward_args {
    struct hb_tensor gate;
    struct hb_tensor up;
    struct hb_tensor out;
};

struct hb_swiglu_backward_args {
    struct hb_tensor gate;
    struct hb_tensor up;
    struct hb_tensor dout;
    struct hb_tensor dgate; /* stored */
    struct hb_tensor dup;   /* stored */
};

HB_MUST_USE hb_status hb_swiglu_forward(struct hb_context *context,
                                        const struct hb_swiglu_forward_args *args);
HB_MUST_USE hb_status hb_swiglu_backward(struct hb_context *context,
                                         const struct hb_swiglu_backward_args *args);

#endif
