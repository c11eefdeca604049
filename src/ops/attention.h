/* attention: softmax attention with grouped queries, in tiles (FlashAttention-2,
 * Dao 2023, arXiv 2307.08691, algorithms 1 and 2): causal or bidirectional, with
 * an optional sliding window (Mistral, arXiv 2310.06825), sinks (StreamingLLM,
 * arXiv 2309.17453) and learned key/value slots.
 *
 * Query head h reads key/value head g = h / (H/G). Rows are packed: segment s (one
 * document, or one sequence) owns query rows [q_begin[s], q_begin[s+1]) and the
 * key positions 0 .. b - 1, b = k_begin[s+1] - k_begin[s]; position j is key row
 * k_begin[s] + j (in a ring: below). It has at least as many keys as queries; the
 * a queries are the last positions, b - a + i. (Training: equal counts.
 * Generation: the keys include the cache.)
 *
 * The query at position i sees key j of its segment if
 *   (bidirectional or j <= i) and (window = 0 or |i - j| < window or j < sinks)
 * so a window of W holds W keys, its own included (as in Hugging Face), and the
 * first keys stay visible behind it. Besides, every query sees all M slots,
 * which have no position. Without slots, a window of at least b is none at all.
 *
 * Forward, per query and head, is one recurrence (numerics.md rule 12) over tiles
 * of 64 keys, ascending, aligned to slot 0 or key 0; s_j = scale * (q . k_j by rule 1):
 *   m' = max(m, max s); a = exp(m - m'); p_j = exp(s_j - m');
 *   l = fmaf(a, l, rowsum(p)); o = chain from +0 of p_j v_j; O = fmaf(a, O, o)
 * starting from m = -inf, l = 0, O = +0; end: O / l + 0.0f, lse = m + log(l).
 * Keys that are not seen contribute nothing (p = +0 in the row sum, no fmaf in the
 * chain); tiles without a seen key are skipped. A maximum or lse of -inf is
 * subtracted as 0, and a row with l = 0 (every score -inf) ends with O = +0,
 * lse = -inf and dQ = +0 instead of NaN.
 *   joint  one recurrence: the tiles of slots, then those of keys
 *   sum    two of them, slots_out with slots_lse, and rest_out with lse over the
 *          keys; out = slots_out + rest_out
 *   gated  the same with w = sigmoid(gate[h]):
 *          out = fmaf(w, slots_out, (1 - w) * rest_out)
 * slots_out and rest_out are rounded to their storage first.
 *
 * Backward (rule 13): D = dot(dO, O); dp_j = dO . v_j by rule 1;
 *   p_j = c exp(s_j - lse); ds_j = p_j (dp_j - D)
 * with the O and lse of the recurrence that the key belongs to; c = 1, gated: w
 * for slots and (1 - w) for keys, one multiplication.
 *   dQ: per tile (slots first) a chain from +0 of ds_j k_j, tiles added ascending
 *   dK, dV: per query head ascending and per tile of 64 queries (aligned to the
 *       segment's position 0) ascending, a chain from +0 over its queries
 *       ascending (ds_i q_i; p_i dO_i), added in that order
 *   dQ and dK are multiplied by scale at the end; all three end with + 0.0f;
 *   rows of dK and dV that no segment owns are +0.
 *   dslots_k, dslots_v: the same for each segment, then rule 4 over the segments
 *   dgate[h]: for each segment, per tile of 64 queries a sum from +0 of
 *       D of slots - D of keys, tiles added ascending, times (w (1 - w)), + 0.0f;
 *       then rule 4 over the segments
 *
 * A ring (generation with a window): ring = R > 0 rows for each segment; position
 * j of segment s lies in row s R + j for j < sinks, else in row
 * s R + sinks + (j - sinks) mod (R - sinks). What is no longer seen has been
 * overwritten: R - sinks >= window + a - 1 for the a queries of a call, the
 * caller's promise. Tiles keep their absolute positions, and so the bits.
 *
 * Shapes: q, out, rest_out, slots_out, dout, dq [n,H,D]; k, v, dk, dv [m,G,D];
 * slots_k, slots_v [M,G,D]; gate [H]; lse, slots_lse fp32 [n,H]; dslots_k, dslots_v
 * fp32 [M,G,D]; dgate fp32 [H]; q_begin, k_begin i32 [S+1]. Every tensor may have
 * a storage type of its own. No aliasing. P stays fp32.
 * FLOPs per visible pair and head: forward 4 D, backward 10 D. */
#ifndef HB_OPS_ATTENTION_H
#define HB_OPS_ATTENTION_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

/* How what slots give and what keys give become one. */
enum hb_attention_combine { HB_JOINT, HB_SUM, HB_GATED };

struct hb_attention_forward_args {
    struct hb_tensor q;       /* [n,H,D] */
    struct hb_tensor k;       /* [m,G,D], G divides H */
    struct hb_tensor v;       /* [m,G,D] */
    struct hb_tensor q_begin; /* i32 [S+1], q_begin[0] = 0, q_begin[S] = n, ascending */
    struct hb_tensor k_begin; /* i32 [S+1], k_begin[S] <= m (not in a ring), ascending */
    int64_t longest;          /* the longest segment's number of keys, or more (for launch sizes) */
    float scale;              /* usually D^-1/2 */
    bool bidirectional;       /* false: causal */
    int64_t window;           /* W; 0: none */
    int64_t sinks;            /* the first keys, seen however far away */
    int64_t ring;             /* 0: none; else window > 0, causal and m = S ring */
    enum hb_attention_combine combine; /* joint where there are no slots */
    struct hb_tensor slots_k; /* [M,G,D]; data NULL: no slots */
    struct hb_tensor slots_v;
    struct hb_tensor gate; /* [H], of gated only */
    struct hb_tensor out;  /* [n,H,D] */
    struct hb_tensor lse;  /* fp32 [n,H]; sum, gated: of the keys */
    struct hb_tensor rest_out, slots_out; /* [n,H,D], of sum and gated only */
    struct hb_tensor slots_lse;           /* fp32 [n,H], likewise */
};

struct hb_attention_backward_args {
    struct hb_tensor q, k, v;
    struct hb_tensor q_begin, k_begin; /* equal counts of queries and keys in every segment */
    int64_t longest;
    float scale;
    bool bidirectional;
    int64_t window, sinks;
    enum hb_attention_combine combine;
    struct hb_tensor slots_k, slots_v;
    struct hb_tensor gate;
    struct hb_tensor out;        /* of forward; sum, gated: its rest_out */
    struct hb_tensor lse;        /* of forward */
    struct hb_tensor slots_out;  /* of forward, of sum and gated only */
    struct hb_tensor slots_lse;  /* likewise */
    struct hb_tensor dout;       /* [n,H,D] */
    struct hb_tensor dq, dk, dv; /* stored */
    struct hb_tensor dslots_k, dslots_v; /* stored; with slots only */
    struct hb_tensor dgate;              /* stored; of gated only */
};

HB_MUST_USE hb_status hb_attention_forward(struct hb_context *context,
                                           const struct hb_attention_forward_args *args);
HB_MUST_USE hb_status hb_attention_backward(struct hb_context *context,
                                            const struct hb_attention_backward_args *args);

#endif
