#include "ops/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AT(op, member) offsetof(struct hb_##op##_args, member)
#define TENSOR(op, member, use) {#member, AT(op, member), use, 0, 0}
#define NUMBER(op, member, kind) {#member, AT(op, member), kind, false}
#define OPTION(op, member, kind) {#member, AT(op, member), kind, true}

static const struct hb_op_tensor embedding_forward_tensors[] = {
    TENSOR(embedding_forward, weight, HB_READS), TENSOR(embedding_forward, ids, HB_READS),
    TENSOR(embedding_forward, out, HB_WRITES),
};
static const struct hb_op_tensor embedding_backward_tensors[] = {
    TENSOR(embedding_backward, ids, HB_READS), TENSOR(embedding_backward, dout, HB_READS),
    {"dweight", AT(embedding_backward, dweight), HB_UPDATES, 0, AT(embedding_backward, present)},
    TENSOR(embedding_backward, present, HB_UPDATES),
};
static const struct hb_op_tensor product_tensors[] = {
    TENSOR(product, a, HB_READS), TENSOR(product, b, HB_READS),
    {"out", AT(product, out), HB_UPDATES, AT(product, epilogue), AT(product, present)},
    TENSOR(product, offsets, HB_READS), TENSOR(product, present, HB_UPDATES),
};
static const struct hb_op_tensor rmsnorm_forward_tensors[] = {
    TENSOR(rmsnorm_forward, x, HB_READS), TENSOR(rmsnorm_forward, weight, HB_READS),
    TENSOR(rmsnorm_forward, y, HB_WRITES), TENSOR(rmsnorm_forward, rstd, HB_WRITES),
};
static const struct hb_op_tensor rmsnorm_backward_input_tensors[] = {
    TENSOR(rmsnorm_backward_input, x, HB_READS), TENSOR(rmsnorm_backward_input, weight, HB_READS),
    TENSOR(rmsnorm_backward_input, rstd, HB_READS), TENSOR(rmsnorm_backward_input, dy, HB_READS),
    TENSOR(rmsnorm_backward_input, dx, HB_WRITES),
};
static const struct hb_op_tensor rmsnorm_backward_weight_tensors[] = {
    TENSOR(rmsnorm_backward_weight, x, HB_READS), TENSOR(rmsnorm_backward_weight, rstd, HB_READS),
    TENSOR(rmsnorm_backward_weight, dy, HB_READS),
    {"dweight", AT(rmsnorm_backward_weight, dweight), HB_UPDATES, AT(rmsnorm_backward_weight, epilogue), 0},
};
static const struct hb_op_tensor rope_tensors[] = {
    TENSOR(rope, x, HB_READS), TENSOR(rope, positions, HB_READS), TENSOR(rope, cosine, HB_READS),
    TENSOR(rope, sine, HB_READS), TENSOR(rope, y, HB_WRITES),
};
static const struct hb_op_tensor attention_forward_tensors[] = {
    TENSOR(attention_forward, q, HB_READS), TENSOR(attention_forward, k, HB_READS),
    TENSOR(attention_forward, v, HB_READS), TENSOR(attention_forward, q_begin, HB_READS),
    TENSOR(attention_forward, k_begin, HB_READS), TENSOR(attention_forward, slots_k, HB_READS),
    TENSOR(attention_forward, slots_v, HB_READS), TENSOR(attention_forward, gate, HB_READS),
    TENSOR(attention_forward, out, HB_WRITES), TENSOR(attention_forward, lse, HB_WRITES),
    TENSOR(attention_forward, rest_out, HB_WRITES), TENSOR(attention_forward, slots_out, HB_WRITES),
    TENSOR(attention_forward, slots_lse, HB_WRITES),
};
static const struct hb_op_tensor attention_backward_tensors[] = {
    TENSOR(attention_backward, q, HB_READS), TENSOR(attention_backward, k, HB_READS),
    TENSOR(attention_backward, v, HB_READS), TENSOR(attention_backward, q_begin, HB_READS),
    TENSOR(attention_backward, k_begin, HB_READS), TENSOR(attention_backward, slots_k, HB_READS),
    TENSOR(attention_backward, slots_v, HB_READS), TENSOR(attention_backward, gate, HB_READS),
    TENSOR(attention_backward, out, HB_READS), TENSOR(attention_backward, lse, HB_READS),
    TENSOR(attention_backward, slots_out, HB_READS), TENSOR(attention_backward, slots_lse, HB_READS),
    TENSOR(attention_backward, dout, HB_READS), TENSOR(attention_backward, dq, HB_WRITES),
    TENSOR(attention_backward, dk, HB_WRITES), TENSOR(attention_backward, dv, HB_WRITES),
    TENSOR(attention_backward, dslots_k, HB_WRITES), TENSOR(attention_backward, dslots_v, HB_WRITES),
    TENSOR(attention_backward, dgate, HB_WRITES),
};
static const struct hb_op_tensor router_forward_tensors[] = {
    TENSOR(router_forward, logits, HB_READS), TENSOR(router_forward, bias, HB_READS),
    TENSOR(router_forward, selection_bias, HB_READS), TENSOR(router_forward, probs, HB_WRITES),
    TENSOR(router_forward, lse, HB_WRITES), TENSOR(router_forward, index, HB_WRITES),
    TENSOR(router_forward, weight, HB_WRITES), TENSOR(router_forward, counts, HB_UPDATES),
};
static const struct hb_op_tensor router_backward_tensors[] = {
    TENSOR(router_backward, probs, HB_READS), TENSOR(router_backward, lse, HB_READS),
    TENSOR(router_backward, index, HB_READS), TENSOR(router_backward, weight, HB_READS),
    TENSOR(router_backward, dweight, HB_READS), TENSOR(router_backward, fraction, HB_READS),
    TENSOR(router_backward, dlogits, HB_WRITES),
};
static const struct hb_op_tensor balance_loss_tensors[] = {
    TENSOR(balance_loss, counts, HB_READS), TENSOR(balance_loss, prob_sum, HB_READS),
    TENSOR(balance_loss, fraction, HB_WRITES), TENSOR(balance_loss, loss, HB_WRITES),
};
static const struct hb_op_tensor balance_bias_tensors[] = {
    TENSOR(balance_bias, counts, HB_READS), TENSOR(balance_bias, found, HB_READS),
    TENSOR(balance_bias, bias, HB_UPDATES),
};
static const struct hb_op_tensor dispatch_plan_tensors[] = {
    TENSOR(dispatch_plan, index, HB_READS), TENSOR(dispatch_plan, offsets, HB_WRITES),
    TENSOR(dispatch_plan, row_of, HB_WRITES), TENSOR(dispatch_plan, pair_of, HB_WRITES),
};
static const struct hb_op_tensor dispatch_forward_tensors[] = {
    TENSOR(dispatch_forward, x, HB_READS), TENSOR(dispatch_forward, pair_of, HB_READS),
    TENSOR(dispatch_forward, rows, HB_WRITES),
};
static const struct hb_op_tensor dispatch_backward_tensors[] = {
    TENSOR(dispatch_backward, drows, HB_READS), TENSOR(dispatch_backward, row_of, HB_READS),
    TENSOR(dispatch_backward, dx, HB_WRITES),
};
static const struct hb_op_tensor combine_forward_tensors[] = {
    TENSOR(combine_forward, rows, HB_READS), TENSOR(combine_forward, row_of, HB_READS),
    TENSOR(combine_forward, weight, HB_READS), TENSOR(combine_forward, y, HB_WRITES),
};
static const struct hb_op_tensor combine_backward_tensors[] = {
    TENSOR(combine_backward, rows, HB_READS), TENSOR(combine_backward, row_of, HB_READS),
    TENSOR(combine_backward, weight, HB_READS), TENSOR(combine_backward, dy, HB_READS),
    TENSOR(combine_backward, drows, HB_WRITES), TENSOR(combine_backward, dweight, HB_WRITES),
};
static const struct hb_op_tensor swiglu_forward_tensors[] = {
    TENSOR(swiglu_forward, gate, HB_READS), TENSOR(swiglu_forward, up, HB_READS),
    TENSOR(swiglu_forward, out, HB_WRITES),
};
static const struct hb_op_tensor swiglu_backward_tensors[] = {
    TENSOR(swiglu_backward, gate, HB_READS), TENSOR(swiglu_backward, up, HB_READS),
    TENSOR(swiglu_backward, dout, HB_READS), TENSOR(swiglu_backward, dgate, HB_WRITES),
    TENSOR(swiglu_backward, dup, HB_WRITES),
};
static const struct hb_op_tensor add_tensors[] = {
    TENSOR(add, a, HB_READS), TENSOR(add, b, HB_READS), TENSOR(add, out, HB_WRITES),
};
static const struct hb_op_tensor cross_entropy_tensors[] = {
    TENSOR(cross_entropy, logits, HB_UPDATES), TENSOR(cross_entropy, labels, HB_READS),
    TENSOR(cross_entropy, loss, HB_WRITES),
};
static const struct hb_op_tensor column_sum_tensors[] = {
    TENSOR(column_sum, x, HB_READS), {"out", AT(column_sum, out), HB_UPDATES, AT(column_sum, epilogue), 0},
};
static const struct hb_op_tensor fold_merge_tensors[] = {
    {"left", AT(fold_merge, left), HB_UPDATES, 0, AT(fold_merge, left_present)},
    {"right", AT(fold_merge, right), HB_READS, 0, AT(fold_merge, right_present)},
    TENSOR(fold_merge, left_present, HB_UPDATES), TENSOR(fold_merge, right_present, HB_READS),
};
static const struct hb_op_tensor fold_close_tensors[] = {
    {"root", AT(fold_close, root), HB_UPDATES, 0, AT(fold_close, present)},
    TENSOR(fold_close, present, HB_UPDATES),
};
static const struct hb_op_tensor sum_tensors[] = {
    TENSOR(sum, x, HB_READS), TENSOR(sum, out, HB_WRITES), TENSOR(sum, found, HB_UPDATES),
    TENSOR(sum, extremes, HB_UPDATES),
};
static const struct hb_op_tensor clip_tensors[] = {
    TENSOR(clip, squares, HB_READS), TENSOR(clip, order, HB_READS), TENSOR(clip, norm, HB_WRITES),
    TENSOR(clip, coef, HB_WRITES),
};
static const struct hb_op_tensor finite_tensors[] = {
    TENSOR(finite, x, HB_READS), TENSOR(finite, found, HB_UPDATES),
    TENSOR(finite, extremes, HB_UPDATES),
};
static const struct hb_op_tensor adamw_tensors[] = {
    TENSOR(adamw, param, HB_UPDATES), TENSOR(adamw, grad, HB_READS), TENSOR(adamw, m, HB_UPDATES),
    TENSOR(adamw, v, HB_UPDATES), TENSOR(adamw, stored, HB_WRITES), TENSOR(adamw, coef, HB_READS),
    TENSOR(adamw, found, HB_READS), TENSOR(adamw, names, HB_READS), TENSOR(adamw, chunk_hash, HB_WRITES),
};
static const struct hb_op_tensor cast_tensors[] = {
    TENSOR(cast, x, HB_READS), TENSOR(cast, out, HB_WRITES),
};
static const struct hb_op_tensor digest_tensors[] = {
    TENSOR(digest, x, HB_READS), TENSOR(digest, chunk_hash, HB_WRITES),
};

static const struct hb_op_number product_numbers[] = {
    NUMBER(product, form, HB_NUMBER_FORM), NUMBER(product, epilogue, HB_NUMBER_EPILOGUE),
};
static const struct hb_op_number rmsnorm_forward_numbers[] = {
    NUMBER(rmsnorm_forward, eps, HB_NUMBER_FLOAT),
};
static const struct hb_op_number rmsnorm_backward_weight_numbers[] = {
    NUMBER(rmsnorm_backward_weight, epilogue, HB_NUMBER_EPILOGUE),
};
static const struct hb_op_number rope_numbers[] = {
    NUMBER(rope, backward, HB_NUMBER_BOOL),
};
static const struct hb_op_number attention_forward_numbers[] = {
    NUMBER(attention_forward, longest, HB_NUMBER_INT), NUMBER(attention_forward, scale, HB_NUMBER_FLOAT),
    OPTION(attention_forward, bidirectional, HB_NUMBER_BOOL),
    OPTION(attention_forward, window, HB_NUMBER_INT), OPTION(attention_forward, sinks, HB_NUMBER_INT),
    OPTION(attention_forward, ring, HB_NUMBER_INT), OPTION(attention_forward, combine, HB_NUMBER_COMBINE),
};
static const struct hb_op_number attention_backward_numbers[] = {
    NUMBER(attention_backward, longest, HB_NUMBER_INT), NUMBER(attention_backward, scale, HB_NUMBER_FLOAT),
    OPTION(attention_backward, bidirectional, HB_NUMBER_BOOL),
    OPTION(attention_backward, window, HB_NUMBER_INT), OPTION(attention_backward, sinks, HB_NUMBER_INT),
    OPTION(attention_backward, combine, HB_NUMBER_COMBINE),
};
static const struct hb_op_number router_forward_numbers[] = {
    NUMBER(router_forward, renormalise, HB_NUMBER_BOOL),
};
static const struct hb_op_number router_backward_numbers[] = {
    NUMBER(router_backward, renormalise, HB_NUMBER_BOOL),
    NUMBER(router_backward, aux_factor, HB_NUMBER_FLOAT), NUMBER(router_backward, aux_rows, HB_NUMBER_INT),
    NUMBER(router_backward, z_factor, HB_NUMBER_FLOAT),
};
static const struct hb_op_number balance_loss_numbers[] = {
    NUMBER(balance_loss, rows, HB_NUMBER_INT), NUMBER(balance_loss, denominator, HB_NUMBER_INT),
};
static const struct hb_op_number balance_bias_numbers[] = {
    NUMBER(balance_bias, rate, HB_NUMBER_FLOAT),
};
static const struct hb_op_number cross_entropy_numbers[] = {
    NUMBER(cross_entropy, gradient, HB_NUMBER_BOOL), NUMBER(cross_entropy, factor, HB_NUMBER_FLOAT),
};
static const struct hb_op_number column_sum_numbers[] = {
    NUMBER(column_sum, epilogue, HB_NUMBER_EPILOGUE),
};
static const struct hb_op_number sum_numbers[] = {
    NUMBER(sum, squares, HB_NUMBER_BOOL), NUMBER(sum, factor, HB_NUMBER_FLOAT),
};
static const struct hb_op_number clip_numbers[] = {
    NUMBER(clip, max_norm, HB_NUMBER_FLOAT),
};
static const struct hb_op_number adamw_numbers[] = {
    NUMBER(adamw, inv_scale, HB_NUMBER_FLOAT), NUMBER(adamw, keep, HB_NUMBER_FLOAT),
    NUMBER(adamw, beta1, HB_NUMBER_FLOAT), NUMBER(adamw, one_minus_beta1, HB_NUMBER_FLOAT),
    NUMBER(adamw, beta2, HB_NUMBER_FLOAT), NUMBER(adamw, one_minus_beta2, HB_NUMBER_FLOAT),
    NUMBER(adamw, step_size, HB_NUMBER_FLOAT), NUMBER(adamw, root2, HB_NUMBER_FLOAT),
    NUMBER(adamw, eps, HB_NUMBER_FLOAT), NUMBER(adamw, groups, HB_NUMBER_INT),
    OPTION(adamw, key, HB_NUMBER_INT), OPTION(adamw, first, HB_NUMBER_INT),
};
static const struct hb_op_number digest_numbers[] = {
    NUMBER(digest, groups, HB_NUMBER_INT),
};

/* Whatever of an argument struct is not described must be too small for a tensor. */
#define COMPLETE(op)                                                                            \
    _Static_assert(sizeof(struct hb_##op##_args) -                                              \
                           sizeof op##_tensors / sizeof op##_tensors[0] * sizeof(struct hb_tensor) < \
                       sizeof(struct hb_tensor),                                                \
                   "a tensor of struct hb_" #op "_args is missing above");
HB_FOR_EACH_OP(COMPLETE)

#define CALL(op)                                                             \
    static hb_status call_##op(struct hb_context *context, const void *args) \
    {                                                                        \
        return hb_##op(context, args);                                       \
    }
HB_FOR_EACH_OP(CALL)

#define TENSORS(op) op##_tensors, sizeof op##_tensors / sizeof op##_tensors[0]
#define NUMBERS(op) op##_numbers, sizeof op##_numbers / sizeof op##_numbers[0]
#define ARGS(op) sizeof(struct hb_##op##_args), call_##op
#define ENTRY(op, header) {#op, header, offsetof(struct hb_backend, op), TENSORS(op), NULL, 0, ARGS(op)}
#define ENTRY_WITH_NUMBERS(op, header) \
    {#op, header, offsetof(struct hb_backend, op), TENSORS(op), NUMBERS(op), ARGS(op)}

const struct hb_op_entry hb_op_table[] = {
    ENTRY(embedding_forward, "embedding"),
    ENTRY(embedding_backward, "embedding"),
    ENTRY_WITH_NUMBERS(product, "product"),
    ENTRY_WITH_NUMBERS(rmsnorm_forward, "rmsnorm"),
    ENTRY(rmsnorm_backward_input, "rmsnorm"),
    ENTRY_WITH_NUMBERS(rmsnorm_backward_weight, "rmsnorm"),
    ENTRY_WITH_NUMBERS(rope, "rope"),
    ENTRY_WITH_NUMBERS(attention_forward, "attention"),
    ENTRY_WITH_NUMBERS(attention_backward, "attention"),
    ENTRY_WITH_NUMBERS(router_forward, "router"),
    ENTRY_WITH_NUMBERS(router_backward, "router"),
    ENTRY_WITH_NUMBERS(balance_loss, "balance"),
    ENTRY_WITH_NUMBERS(balance_bias, "balance"),
    ENTRY(dispatch_plan, "dispatch"),
    ENTRY(dispatch_forward, "dispatch"),
    ENTRY(dispatch_backward, "dispatch"),
    ENTRY(combine_forward, "combine"),
    ENTRY(combine_backward, "combine"),
    ENTRY(swiglu_forward, "swiglu"),
    ENTRY(swiglu_backward, "swiglu"),
    ENTRY(add, "add"),
    ENTRY_WITH_NUMBERS(cross_entropy, "cross_entropy"),
    ENTRY_WITH_NUMBERS(column_sum, "column_sum"),
    ENTRY(fold_merge, "fold"),
    ENTRY(fold_close, "fold"),
    ENTRY_WITH_NUMBERS(sum, "sum"),
    ENTRY_WITH_NUMBERS(clip, "clip"),
    ENTRY(finite, "finite"),
    ENTRY_WITH_NUMBERS(adamw, "adamw"),
    ENTRY(cast, "cast"),
    ENTRY_WITH_NUMBERS(digest, "digest"),
};
const int hb_op_count = sizeof hb_op_table / sizeof hb_op_table[0];

#define ONE(op) +1
_Static_assert(sizeof hb_op_table / sizeof hb_op_table[0] == 0 HB_FOR_EACH_OP(ONE),
               "hb_op_table and HB_FOR_EACH_OP must list the same ops");

const struct hb_op_entry *hb_op_find(const char *name)
{
    for (int i = 0; i < hb_op_count; i++)
        if (strcmp(name, hb_op_table[i].name) == 0)
            return &hb_op_table[i];
    return NULL;
}

const struct hb_tensor *hb_op_tensor_of(const void *args, const struct hb_op_tensor *t)
{
    return (const struct hb_tensor *)((const char *)args + t->offset);
}

const char *const hb_op_form_names[3] = {
    [HB_PRODUCT_NT] = "NT", [HB_PRODUCT_NN] = "NN", [HB_PRODUCT_TN] = "TN"};
const char *const hb_op_epilogue_names[3] = {
    [HB_STORE] = "STORE", [HB_CONTINUE] = "CONTINUE", [HB_ADD] = "ADD"};
const char *const hb_op_combine_names[3] = {[HB_JOINT] = "joint", [HB_SUM] = "sum", [HB_GATED] = "gated"};

const char *hb_op_number_text(const void *args, const struct hb_op_number *number, char text[32])
{
    const void *at = (const char *)args + number->offset;
    switch (number->kind) {
    case HB_NUMBER_INT:
        snprintf(text, 32, "%" PRId64, *(const int64_t *)at);
        break;
    case HB_NUMBER_FLOAT:
        snprintf(text, 32, "%a", (double)*(const float *)at);
        break;
    case HB_NUMBER_BOOL:
        snprintf(text, 32, "%s", *(const bool *)at ? "true" : "false");
        break;
    case HB_NUMBER_FORM:
        snprintf(text, 32, "%s", hb_op_form_names[*(const enum hb_product_form *)at]);
        break;
    case HB_NUMBER_EPILOGUE:
        snprintf(text, 32, "%s", hb_op_epilogue_names[*(const enum hb_product_epilogue *)at]);
        break;
    case HB_NUMBER_COMBINE:
        snprintf(text, 32, "%s", hb_op_combine_names[*(const enum hb_attention_combine *)at]);
        break;
    }
    return text;
}

enum hb_op_use hb_op_use_of(const void *args, const struct hb_op_tensor *t)
{
    enum hb_product_epilogue epilogue = HB_ADD;
    if (t->epilogue)
        memcpy(&epilogue, (const char *)args + t->epilogue, sizeof epilogue);
    return epilogue == HB_STORE ? HB_WRITES : t->use;
}

double hb_op_bytes(const char *name, const void *args)
{
    const struct hb_op_entry *entry = hb_op_find(name);
    double bytes = 0;
    if (!entry || strncmp(name, "embedding_", 10) == 0)
        return 0;
    for (int i = 0; i < entry->tensor_count; i++) {
        const struct hb_tensor *t = hb_op_tensor_of(args, &entry->tensors[i]);
        enum hb_op_use use = hb_op_use_of(args, &entry->tensors[i]);
        if (t->data)
            bytes += (double)hb_tensor_bytes(t) * (((use & HB_READS) != 0) + ((use & HB_WRITES) != 0));
    }
    return bytes;
}

/* Op pointers have different types but one representation; they are moved as bytes. */
typedef void (*any_function)(void);

bool hb_backend_has(const struct hb_backend *backend, const struct hb_op_entry *entry)
{
    any_function f;
    memcpy(&f, (const char *)backend + entry->offset, sizeof f);
    return f != NULL;
}

void hb_backend_inherit(const struct hb_backend *backend, const struct hb_backend *base,
                        struct hb_backend *out)
{
    *out = *backend;
    for (int i = 0; i < hb_op_count; i++)
        if (!hb_backend_has(backend, &hb_op_table[i]))
            memcpy((char *)out + hb_op_table[i].offset, (const char *)base + hb_op_table[i].offset,
                   sizeof(any_function));
}
