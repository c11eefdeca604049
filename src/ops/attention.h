/* attention: causal softmax attention with grouped queries, in tiles
 * (FlashAttention-2, Dao 2023, arXiv 2307.08691, algorithms 1 and 2).
 *
 * Query head h reads key/value head h / (H/G). Rows are packed: segment s (one
 * document, or one sequence) owns query rows [q_begin[s], q_begin[s+1]) and key
 * rows [k_begin[s], k_begin[s+1]). It has at least as many keys as queries; the
 * queries are the last positions: query i of a segment with a queries and b
 * keys stands at position b - a + i and sees keys 0 .. that position. (Training:
 * equal counts. Generation: the keys include the cache.)
 *
 * Forward, per query and head (numerics.md rule 12): keys in tiles of 64 aligned
 * to the segment's key 0, ascending; s_j = scale * (q . k_j by rule 1); then
 *   m' = max(m, max s); a = exp(m - m'); p_j = exp(s_j - m');
 *   l = fmaf(a, l, rowsum(p)); o = chain from +0 of p_j v_j; O = fmaf(a, O, o)
 * starting from m = -inf, l = 0, O = +0; end: O / l + 0.0f, lse = m + log(l).
 * Masked keys contribute nothing (p = +0 in the row sum, no fmaf in the chain).
 * A maximum or lse of -inf is subtracted as 0, and a row with l = 0 (no keys, or
 * every score -inf) ends with O = +0, lse = -inf and dQ = +0 instead of NaN.
 *
 * Backward (rule 13): D = dot(dO, O); dp_j = dO . v_j by rule 1;
 *   p_j = exp(s_j - lse); ds_j = p_j (dp_j - D)
 *   dQ: per tile of keys a chain from +0 of ds_j k_j, tiles added ascending
 *   dK, dV: per query head ascending and per tile of 64 queries (aligned to the
 *       segment's position 0) ascending, a chain from +0 over its queries
 *       ascending (ds_i q_i; p_i dO_i), added in that order
 *   dQ and dK are multiplied by scale at the end; all three end with + 0.0f;
 *   rows of dK and dV that no segment owns are +0.
 *
 * Shapes: q, out, dout, dq [n,H,D]; k, v, dk, dv [m,G,D]; lse fp32 [n,H];
 * q_begin, k_begin i32 [S+1]. No aliasing. P stays fp32.
 * FLOPs per visible pair and head: forward 4 D, backward 10 D. */
#ifndef HB_OPS_ATTENTION_H
#define HB_OPS_ATTENTION_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_attention_forward_args {
    struct hb_tensor q;       /* [n,H,D] */
    struct hb_tensor k;       /* [m,G,D], G divides H */
    struct hb_tensor v;       /* [m,G,D] */
    struct hb_tensor q_begin; /* i32 [S+1], q_begin[0] = 0, q_begin[S] = n, ascending */
    struct hb_tensor k_begin; /* i32 [S+1], k_begin[S] <= m, ascending */
    int64_t longest;          /* the longest segment's number of keys, or more (for launch sizes) */
    float scale;              /* usually D^-1/2 */
    struct hb_tensor out;     /* [n,H,D] */
    struct hb_tensor lse;     /* fp32 [n,H] */
};

struct hb_attention_backward_args {
    struct hb_tensor q, k, v;
    struct hb_tensor q_begin, k_begin; /* equal counts of queries and keys in every segment */
    int64_t longest;
    float scale;
    struct hb_tensor out;        /* of forward */
    struct hb_tensor lse;        /* of forward */
    struct hb_tensor dout;       /* [n,H,D] */
    struct hb_tensor dq, dk, dv; /* stored */
};

HB_MUST_USE hb_status hb_attention_forward(struct hb_context *context,
                                           const struct hb_attention_forward_args *args);
HB_MUST_USE hb_status hb_attention_backward(struct hb_context *context,
                                            const struct hb_attention_backward_args *args);

#endif
