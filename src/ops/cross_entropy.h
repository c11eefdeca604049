/* cross_entropy: next-token loss of rows of logits, and its gradient.
 *
 * Per row with label y: m = max; e_i = exp(logits_i - m); s = rowsum(e);
 *   loss = (m + log(s)) - logits_y
 *   gradient (optional): logits_i becomes (e_i / s - [i == y]) factor
 * A row whose label is negative (Hugging Face's -100) is ignored: loss +0, and
 * gradient +0 throughout, whatever its logits are.
 * factor = fp32(scale / N), N = labels of the whole step (numerics.md rule 17).
 *
 * Shapes: logits [n,V]; labels i32 [n], each below V; loss fp32
 * [n]. FLOPs about 5 n V; bytes 2 to 3 n V elements. */
#ifndef HB_OPS_CROSS_ENTROPY_H
#define HB_OPS_CROSS_ENTROPY_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_cross_entropy_args {
    struct hb_tensor logits; /* [n,V]; overwritten by the gradient if asked for */
    struct hb_tensor labels; /* i32 [n] */
    struct hb_tensor loss;   /* fp32 [n], stored */
    bool gradient;
    float factor;
};

HB_MUST_USE hb_status hb_cross_entropy(struct hb_context *context, const struct hb_cross_entropy_args *args);

#endif
