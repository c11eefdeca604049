/* The expert layer on the tape: router, dispatch, expert products, combine.
 *
 *   logits = x W_r^T;  (index, weight) = router(logits)
 *   y_t = sum over slots j of weight_{t,j} down_e( silu(gate_e x_t) * up_e x_t ),  e = index_{t,j}
 *
 * One entry, because its input gradient has an order of its own (numerics.md
 * rule 2): slots ascending, then the router's part by ADD. */
#ifndef HB_TAPE_MOE_H
#define HB_TAPE_MOE_H

#include "tape/tape.h"

enum hb_balance_kind { HB_BALANCE_NONE, HB_BALANCE_HF, HB_BALANCE_LAYER, HB_BALANCE_BIAS };

/* The balance statistics of one microbatch; the carry of the model holds it, as
 * a pipeline must hand it on. All tensors live on the backend. */
struct hb_balance {
    enum hb_balance_kind kind;
    int64_t layers, experts;    /* MoE layers L, E */
    struct hb_tensor counts;    /* i64 [L,E]: tokens per expert, this microbatch */
    struct hb_tensor prob_sum;  /* fp32 [E] */
    struct hb_tensor fraction;  /* fp32 [L,E]; `hf` uses row 0 */
    struct hb_tensor aux;       /* fp32 [L]; `hf` uses entry 0 */
    struct hb_tensor z_squares; /* fp64 [L]: sum over tokens of lse^2 */
    float aux_factor;           /* scale * coefficient / microbatches; 0 when there is no such loss */
    float z_factor;
};

/* Clears the statistics; before the first block of a microbatch. */
HB_MUST_USE hb_status hb_balance_begin(struct hb_context *context, struct hb_balance *balance);
/* `hf`: the loss over all layers of `tokens` tokens; after the last block. */
HB_MUST_USE hb_status hb_balance_end(struct hb_context *context, struct hb_balance *balance, int64_t tokens);

/* The layer's weights and choices; owned by the block. */
struct hb_moe {
    struct hb_param *router;         /* [E,C] */
    struct hb_param *router_bias;    /* [E] or NULL: the article's gate bias */
    struct hb_param *selection_bias; /* [E] or NULL: of balance `bias`, moved by counts */
    struct hb_param *gate, *up;      /* stacks [E,F,C] */
    struct hb_param *down;           /* stack [E,C,F] */
    int64_t top_k;
    bool renormalise;
    int64_t layer; /* row of the balance statistics */
};

/* Where a layer's choices are copied for somebody who looks on. */
struct hb_choices {
    struct hb_tensor index;  /* i32 [n,K], data NULL: not wanted */
    struct hb_tensor weight; /* fp32 [n,K], data NULL: not wanted */
};

/* `balance` and `moe` stay valid until backward; `balance` is complete by then.
 * `choices` may be NULL. */
HB_MUST_USE hb_status hb_tape_moe(struct hb_tape *tape, struct hb_var *x, const struct hb_moe *moe,
                                  struct hb_balance *balance, const struct hb_choices *choices,
                                  struct hb_var **out);

#endif
