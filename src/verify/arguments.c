#include "verify/arguments.h"

#include <string.h>

#define SCALAR(op, kind, member) {#op, #member, HB_SCALAR_##kind, offsetof(struct hb_##op##_args, member), false}
#define OPTION(op, kind, member) {#op, #member, HB_SCALAR_##kind, offsetof(struct hb_##op##_args, member), true}

const struct hb_op_scalar hb_op_scalars[] = {
    SCALAR(product, FORM, form), SCALAR(product, EPILOGUE, epilogue),
    SCALAR(rmsnorm_forward, FLOAT, eps),
    SCALAR(rmsnorm_backward_weight, EPILOGUE, epilogue),
    SCALAR(rope, BOOL, backward),
    SCALAR(attention_forward, INT, longest), SCALAR(attention_forward, FLOAT, scale),
    OPTION(attention_forward, BOOL, bidirectional),
    OPTION(attention_forward, INT, window), OPTION(attention_forward, INT, sinks),
    OPTION(attention_forward, INT, ring), OPTION(attention_forward, COMBINE, combine),
    SCALAR(attention_backward, INT, longest), SCALAR(attention_backward, FLOAT, scale),
    OPTION(attention_backward, BOOL, bidirectional),
    OPTION(attention_backward, INT, window), OPTION(attention_backward, INT, sinks),
    OPTION(attention_backward, COMBINE, combine),
    SCALAR(router_forward, BOOL, renormalise),
    SCALAR(router_backward, BOOL, renormalise), SCALAR(router_backward, FLOAT, aux_factor),
    SCALAR(router_backward, INT, aux_rows), SCALAR(router_backward, FLOAT, z_factor),
    SCALAR(balance_loss, INT, rows), SCALAR(balance_loss, INT, denominator),
    SCALAR(balance_bias, FLOAT, rate),
    SCALAR(cross_entropy, BOOL, gradient), SCALAR(cross_entropy, FLOAT, factor),
    SCALAR(column_sum, EPILOGUE, epilogue),
    SCALAR(sum, BOOL, squares), SCALAR(sum, FLOAT, factor),
    SCALAR(clip, FLOAT, max_norm),
    SCALAR(adamw, FLOAT, inv_scale), SCALAR(adamw, FLOAT, keep), SCALAR(adamw, FLOAT, beta1),
    SCALAR(adamw, FLOAT, one_minus_beta1), SCALAR(adamw, FLOAT, beta2),
    SCALAR(adamw, FLOAT, one_minus_beta2), SCALAR(adamw, FLOAT, step_size), SCALAR(adamw, FLOAT, root2),
    SCALAR(adamw, FLOAT, eps), SCALAR(adamw, INT, groups),
    SCALAR(digest, INT, groups),
};
const int hb_op_scalar_count = sizeof hb_op_scalars / sizeof hb_op_scalars[0];

#define CALL(op)                                                             \
    static hb_status call_##op(struct hb_context *context, const void *args) \
    {                                                                        \
        return hb_##op(context, args);                                       \
    }
HB_FOR_EACH_OP(CALL)

#define ENTRY(op) {#op, call_##op, sizeof(struct hb_##op##_args)},
static const struct hb_op_call calls[] = {HB_FOR_EACH_OP(ENTRY)};

const struct hb_op_call *hb_op_call_find(const char *op)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(op, calls[i].op) == 0)
            return &calls[i];
    return NULL;
}
