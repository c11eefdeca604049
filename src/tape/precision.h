/* The precision policy: in which type each class of named tensors is stored.
 *
 * Arithmetic is fp32 everywhere. A named tensor is rounded once, to nearest even,
 * when it is produced, and every consumer sees the rounded value (docs/numerics.md
 * rules 8 to 11). The comment at the head of each block names its tensors:
 *
 *   weight      parameters, but for the biases of the router
 *   activation  what lies between a norm and the projection back: bounded by it
 *   residual    the residual stream inside a block, and what is added to it
 *   dispatched  rows that go to their experts                  } "communication",
 *   combined    rows that come back from them                  } where it is given; else
 *   block       the residual stream between blocks             } activation, residual, residual
 *
 * Gradients of activations have a type of their own, those of the last three
 * "communication" where it is given. fp32 whatever the policy: masters, moments,
 * statistics of softmax and norms, the router's logits, probabilities and weights,
 * the head's logits, losses, sums that are not finished. */
#ifndef HB_TAPE_PRECISION_H
#define HB_TAPE_PRECISION_H

#include "ops/backend.h"

enum hb_class {
    HB_CLASS_WEIGHT,
    HB_CLASS_ACTIVATION,
    HB_CLASS_RESIDUAL,
    HB_CLASS_DISPATCHED,
    HB_CLASS_COMBINED,
    HB_CLASS_BLOCK,
};

enum hb_storage { HB_STORED_FP32, HB_STORED_BF16, HB_STORED_FP16, HB_STORED_AS_CLASS };

/* All zero but `communication`: fp32. */
struct hb_precision {
    enum hb_storage weights, activations, residual, gradients;
    /* HB_STORED_FP32 where nothing is 16 bits: no matter; AS_CLASS: not given */
    enum hb_storage communication;
    enum hb_storage param_grad;    /* leaves and nodes of the fold: fp32 or bf16 */
    bool no_masters;               /* 16-bit weights take the update themselves */
    bool stochastic;               /* and are rounded stochastically */
};

/* "fp32", "bf16", "fp16": everything in that type. "mixed": fp16 for what is
 * bounded (weights, activations), bf16 for what is not (residual stream, gradients). */
HB_MUST_USE hb_status hb_precision_preset(const char *name, struct hb_precision *out);

/* Fields by name, for files: weights, activations, residual, gradients, communication,
 * param_grad ("fp32", "bf16", "fp16"; communication also "class"), masters ("true", "false"),
 * rounding ("nearest", "stochastic"). HB_EARGUMENT says what is allowed. */
enum { HB_PRECISION_FIELDS = 8 };
HB_MUST_USE hb_status hb_precision_set(struct hb_precision *precision, const char *field, const char *value);
const char *hb_precision_field(int i);
const char *hb_precision_value(const struct hb_precision *precision, int i);

/* Combinations that mean nothing. */
HB_MUST_USE hb_status hb_precision_check(const struct hb_precision *precision);
bool hb_precision_is_fp32(const struct hb_precision *precision);
/* What a backend must be able to store: HB_STORAGE bits. */
uint32_t hb_precision_storage(const struct hb_precision *precision);

/* Types on a context (fp64 throughout on the double form of ref); NULL is fp32. */
enum hb_dtype hb_class_dtype(const struct hb_context *context, const struct hb_precision *precision,
                             enum hb_class which);
enum hb_dtype hb_class_grad_dtype(const struct hb_context *context, const struct hb_precision *precision,
                                  enum hb_class which);
enum hb_dtype hb_param_grad_dtype(const struct hb_context *context, const struct hb_precision *precision);

#endif
