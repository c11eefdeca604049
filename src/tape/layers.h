/* Ops on the tape: each function runs an op forward and, when the tape
 * records, leaves the entry that runs it backward.
 *
 * Values are [n, width], one row a token of the microbatch, and activations
 * unless a class is said (tape/precision.h). `out` receives a
 * variable with one reference, the caller's. Every function is for one
 * microbatch; weight gradients become leaves of tape->microbatch. */
#ifndef HB_TAPE_LAYERS_H
#define HB_TAPE_LAYERS_H

#include "tape/tape.h"

/* y[t] = weight[ids[t]]; ids i32 [n], each below V, stay valid until backward. */
HB_MUST_USE hb_status hb_tape_embedding(struct hb_tape *tape, struct hb_param *weight, int use,
                                        struct hb_tensor ids, struct hb_var **out);

/* RMSNorm over groups of D columns, D the length of the weight: the whole row,
 * or each head of it. */
HB_MUST_USE hb_status hb_tape_rmsnorm(struct hb_tape *tape, struct hb_var *x, struct hb_param *weight,
                                      float eps, struct hb_var **out);

/* Sibling linear layers of one input: out[i] = x weight[i]^T, i < count <= 3, of
 * this class. dx is one product continued over them (numerics.md rule 2). */
HB_MUST_USE hb_status hb_tape_linears(struct hb_tape *tape, struct hb_var *x, int count,
                                      struct hb_param *const *weight, enum hb_class which,
                                      struct hb_var **out);

/* out = a + b, of this class. */
HB_MUST_USE hb_status hb_tape_add(struct hb_tape *tape, struct hb_var *a, struct hb_var *b,
                                  enum hb_class which, struct hb_var **out);

/* out = silu(gate) * up. */
HB_MUST_USE hb_status hb_tape_swiglu(struct hb_tape *tape, struct hb_var *gate, struct hb_var *up,
                                     struct hb_var **out);

/* Where tokens stand: documents of a microbatch, and the rotary tables. */
struct hb_positions {
    struct hb_tensor begin;  /* i32 [S+1]: rows of each attention segment */
    struct hb_tensor k_begin; /* i32 [S+1]: the same, or rows of a cache */
    int64_t longest;         /* keys of the longest segment */
    struct hb_tensor place;  /* i32 [n]: position in the segment, for rope */
    struct hb_tensor cosine; /* fp32 [P, D/2] */
    struct hb_tensor sine;
};

/* Rotates x [n, heads D] in place. `positions` stays valid until backward. */
HB_MUST_USE hb_status hb_tape_rope(struct hb_tape *tape, struct hb_var *x, int64_t head_width,
                                   const struct hb_positions *positions);

/* How a layer attends (ops/attention.h): causal, inside each segment. */
struct hb_attention_layer {
    int64_t head_width;
    float scale;
    int64_t window, sinks; /* window 0: none */
    int64_t ring;          /* rows of the cache that k and v are, 0: not a ring */
    enum hb_attention_combine combine;
    struct hb_param *memory_k, *memory_v; /* [M, G D], or NULL */
    struct hb_param *memory_gate;         /* [H], of gated */
};

/* q [n, H D], k and v [n, G D]. `layer` and `positions` stay valid until backward. */
HB_MUST_USE hb_status hb_tape_attention(struct hb_tape *tape, const struct hb_attention_layer *layer,
                                        struct hb_positions *positions, struct hb_var *q, struct hb_var *k,
                                        struct hb_var *v, struct hb_var **out);

/* Head and loss, chunked over tokens so that n V logits never exist at once
 * (numerics.md rule 17): loss fp32 [n] per row, 0 where the label is ignored.
 * When the tape records, the gradients of x and weight are made at once, with
 * dlogit = (p - y) factor; the entry only hands dx on. */
HB_MUST_USE hb_status hb_tape_head(struct hb_tape *tape, struct hb_var *x, struct hb_param *weight, int use,
                                   struct hb_tensor labels, float factor, struct hb_tensor loss);

/* Rows of a head chunk for a vocabulary of V when `elements` logits may exist
 * at a time: a multiple of 256, and never less. */
int64_t hb_head_chunk_rows(int64_t elements, int64_t V);

#endif
