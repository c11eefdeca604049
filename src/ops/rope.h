/* rope: rotary position embedding, rotate-half layout (Su et al. 2021, arXiv
 * 2104.09864, eq. 34; pairs (i, i + D/2) as in Hugging Face's Qwen3).
 *
 * With c = cosine[p][i], s = sine[p][i], p = positions[t]:
 *   forward:  y_i       = fmaf(x_i, c, -(x_{i+D/2} s))
 *             y_{i+D/2} = fmaf(x_{i+D/2}, c, x_i s)
 *   backward: the same with -s in place of s.
 *
 * Shapes: x, y [n,H,D], D even; positions i32 [n]; cosine, sine fp32 [P, D/2].
 * y may be x if their elements have the same size. Bytes: 2 n H D elements. */
#ifndef HB_OPS_ROPE_H
#define HB_OPS_ROPE_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_rope_args {
    struct hb_tensor x;         /* [n,H,D] */
    struct hb_tensor positions; /* i32 [n], each in [0, P) */
    struct hb_tensor cosine;    /* fp32 [P,D/2] */
    struct hb_tensor sine;      /* fp32 [P,D/2] */
    struct hb_tensor y;         /* [n,H,D] */
    bool backward;
};

HB_MUST_USE hb_status hb_rope(struct hb_context *context, const struct hb_rope_args *args);

#endif
