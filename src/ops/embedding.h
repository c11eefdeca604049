/* embedding: rows of a table.
 *
 * Forward:  out[t] = weight[ids[t]]; an id outside [0, V) is refused by the
 *           caller (the data is checked when it is loaded).
 * Backward: s[r] = sum of dout[t] over the tokens t with ids[t] == r, in token
 *           order, the first one starting the sum, fp32. Then, for rows that
 *           occurred: dweight[r] = present[r] ? dweight[r] + s[r] : s[r], and
 *           present[r] = 1. Other rows are not touched: an unseen row is an
 *           absent leaf of the fold (numerics.md rule 18).
 *
 * Shapes: weight, dweight [V,C]; ids i32 [n]; out, dout [n,C]; present i32 [V].
 * dweight is fp32. Bytes: 2 n C elements. */
#ifndef HB_OPS_EMBEDDING_H
#define HB_OPS_EMBEDDING_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_embedding_forward_args {
    struct hb_tensor weight; /* [V,C] */
    struct hb_tensor ids;    /* i32 [n] */
    struct hb_tensor out;    /* [n,C] */
};

struct hb_embedding_backward_args {
    struct hb_tensor ids;     /* i32 [n] */
    struct hb_tensor dout;    /* [n,C] */
    struct hb_tensor dweight; /* [V,C], fp32, rows accumulated as above */
    struct hb_tensor present; /* i32 [V], read and written */
};

HB_MUST_USE hb_status hb_embedding_forward(struct hb_context *context,
                                           const struct hb_embedding_forward_args *args);
HB_MUST_USE hb_status hb_embedding_backward(struct hb_context *context,
                                            const struct hb_embedding_backward_args *args);

#endif
