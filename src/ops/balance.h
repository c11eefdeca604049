/* balance: the load-balancing loss from integer counts, and the selection bias.
 *
 * balance_loss: f_i = fp32(sum over layers of counts_{l,i} / denominator), in
 *   fp64 before the rounding; P_i = prob_sum_i / R (fp32 division);
 *   loss = E * dot(f, P).
 *     `hf` (Hugging Face, load_balancing_loss_func): all MoE layers of a microbatch,
 *        R = denominator = tokens * layers; perfectly balanced value K.
 *     `layer` (Megatron, Switch eq. 4, arXiv 2101.03961): one layer, R = tokens,
 *        denominator = tokens * K; perfectly balanced value 1.
 * balance_bias: `bias` (DeepSeek-V3, arXiv 2412.19437, 2.1.2): after a step,
 *   bias_i += rate * sign(mean - count_i) with the comparison in integers,
 *   count_i * E against the sum of counts; equal: unchanged.
 *
 * Shapes: counts i64 [L,E]; prob_sum, fraction fp32 [E]; loss fp32 [1];
 * bias fp32 [E]; found i32 [1] (nonzero: the step is skipped, nothing moves). */
#ifndef HB_OPS_BALANCE_H
#define HB_OPS_BALANCE_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_balance_loss_args {
    struct hb_tensor counts;   /* i64 [L,E] */
    struct hb_tensor prob_sum; /* fp32 [E], column sums of probs, layers ascending */
    int64_t rows;              /* R */
    int64_t denominator;
    struct hb_tensor fraction; /* fp32 [E], f */
    struct hb_tensor loss;     /* fp32 [1] */
};

struct hb_balance_bias_args {
    struct hb_tensor counts; /* i64 [E], of the whole step */
    float rate;
    struct hb_tensor found; /* i32 [1] */
    struct hb_tensor bias;  /* fp32 [E], updated */
};

HB_MUST_USE hb_status hb_balance_loss(struct hb_context *context, const struct hb_balance_loss_args *args);
HB_MUST_USE hb_status hb_balance_bias(struct hb_context *context, const struct hb_balance_bias_args *args);

#endif
