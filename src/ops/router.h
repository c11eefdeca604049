/* router: from gate logits to K experts per token (Shazeer et al. 2017, arXiv
 * 1701.06538; Qwen3-MoE; with K = E and a bias the article's dense gate
 * softmax(W x + b)). All of it in fp32.
 *
 * Forward, per token:
 *   l_i = logits_i (+ bias_i);  m = max l;  e_i = exp(l_i - m);  s = rowsum(e)
 *   probs_i = e_i / s;  lse = m + log(s)
 *   S = the K largest of probs_i (+ selection_bias_i); slot j holds the j-th
 *   largest; ties go to the lower id, NaN ranks last
 *   weight_j = probs of slot j, divided by their row sum if `renormalise`
 *   counts[i] += 1 for every chosen expert (integers: order is free)
 * Backward: dlogits collects three parts in this order,
 *   weights, renormalised:  w_j (dw_j - sum_j dw_j w_j) for the chosen, +0 else
 *   weights, plain:         p_i ([i in S] dw_i - sum_j dw_j p_j) for all i
 *   aux (if fraction is given; ops/balance.h):  fmaf(a, p_i (f_i - dot(f, p)), dlogits_i),
 *       a = fp32(aux_factor E / aux_rows)
 *   z (if z_factor != 0; ST-MoE, arXiv 2202.08906 eq. 5): fmaf(z lse, p_i, dlogits_i),
 *       z = fp32(2 z_factor / n)
 * Sums over K and E are rule 3, sums of products by fmaf. Selection bias has no
 * gradient; the gradient of bias is the column sum of dlogits.
 *
 * A row with a NaN has NaN probabilities and the experts 0 .. K-1. No aliasing.
 *
 * Shapes: logits, probs, dlogits fp32 [n,E]; bias, selection_bias, fraction fp32
 * [E]; lse fp32 [n]; index i32 [n,K]; weight, dweight fp32 [n,K]; counts i64 [E]. */
#ifndef HB_OPS_ROUTER_H
#define HB_OPS_ROUTER_H

#include <stdbool.h>

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_router_forward_args {
    struct hb_tensor logits;         /* fp32 [n,E] */
    struct hb_tensor bias;           /* fp32 [E]; data NULL: none */
    struct hb_tensor selection_bias; /* fp32 [E]; data NULL: none */
    bool renormalise;
    struct hb_tensor probs;  /* fp32 [n,E] */
    struct hb_tensor lse;    /* fp32 [n] */
    struct hb_tensor index;  /* i32 [n,K] */
    struct hb_tensor weight; /* fp32 [n,K] */
    struct hb_tensor counts; /* i64 [E], accumulated */
};

struct hb_router_backward_args {
    struct hb_tensor probs;   /* fp32 [n,E] */
    struct hb_tensor lse;     /* fp32 [n] */
    struct hb_tensor index;   /* i32 [n,K] */
    struct hb_tensor weight;  /* fp32 [n,K] */
    struct hb_tensor dweight; /* fp32 [n,K] */
    bool renormalise;
    struct hb_tensor fraction; /* fp32 [E], f of the balance loss; data NULL: none */
    float aux_factor;          /* scale * coefficient / microbatches */
    int64_t aux_rows;          /* R: tokens of the microbatch (times layers for `hf`) */
    float z_factor;            /* scale * coefficient / microbatches; 0: none */
    struct hb_tensor dlogits;  /* fp32 [n,E], stored */
};

HB_MUST_USE hb_status hb_router_forward(struct hb_context *context,
                                        const struct hb_router_forward_args *args);
HB_MUST_USE hb_status hb_router_backward(struct hb_context *context,
                                         const struct hb_router_backward_args *args);

#endif
