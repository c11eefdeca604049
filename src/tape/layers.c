#include "tape/layers.h"

#include "tape/recompute.h"

/* --- embedding --- */

static hb_status embedding_input(struct hb_tape *tape, struct hb_entry *entry)
{
    (void)tape;
    (void)entry;
    return HB_OK; /* ids have no gradient */
}

static hb_status embedding_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_leaf leaf;
    int use = (int)entry->number[0];
    HB_TRY(hb_leaf_begin(tape->gradients, entry->param[0], use, tape->microbatch, true, &leaf));
    struct hb_embedding_backward_args args = {
        .ids = entry->tensor[0], .dout = entry->out[0]->grad, .dweight = leaf.out, .present = leaf.present};
    HB_TRY(hb_embedding_backward(tape->context, &args));
    return hb_leaf_end(tape->gradients, entry->param[0], use, &leaf);
}

static const struct hb_entry_kind embedding_kind = {"embedding", embedding_input, embedding_weight, NULL};

hb_status hb_tape_embedding(struct hb_tape *tape, struct hb_param *weight, int use, struct hb_tensor ids,
                            struct hb_var **out)
{
    struct hb_var *y;
    HB_TRY(hb_var_create(tape, HB_CLASS_BLOCK, 2, (int64_t[]){ids.shape[0], weight->value.shape[1]}, &y));
    struct hb_embedding_forward_args args = {.weight = weight->value, .ids = ids, .out = y->value};
    struct hb_entry *entry = NULL;
    hb_status status = hb_embedding_forward(tape->context, &args);
    if (status == HB_OK)
        status = hb_tape_record(tape, &embedding_kind, 0, NULL, 1, &y, &entry);
    if (status != HB_OK) {
        hb_var_drop(tape, y);
        return status;
    }
    if (entry) {
        entry->param[entry->param_count++] = weight;
        entry->number[0] = (float)use;
        entry->tensor[0] = ids;
    }
    *out = y;
    return HB_OK;
}

/* --- rmsnorm --- */

static hb_status rmsnorm_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_var *x = entry->in[0], *y = entry->out[0];
    int64_t D = entry->param[0]->value.shape[0], rows = hb_tensor_count(&x->value) / D;
    struct hb_buffer *buffer;
    struct hb_tensor dx;
    HB_TRY(hb_entry_grad_buffers(tape, entry, &buffer, &dx));
    struct hb_rmsnorm_backward_input_args args = {
        .x = hb_tensor_as_2d(x->value, rows, D),
        .weight = entry->param[0]->value,
        .rstd = entry->tensor[0],
        .dy = hb_tensor_as_2d(y->grad, rows, D),
        .dx = hb_tensor_as_2d(dx, rows, D),
    };
    return hb_entry_contribute(tape, entry, &buffer, hb_rmsnorm_backward_input(tape->context, &args));
}

static hb_status rmsnorm_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_var *x = entry->in[0], *y = entry->out[0];
    int64_t D = entry->param[0]->value.shape[0], rows = hb_tensor_count(&x->value) / D;
    struct hb_leaf leaf;
    HB_TRY(hb_leaf_begin(tape->gradients, entry->param[0], 0, tape->microbatch, true, &leaf));
    struct hb_rmsnorm_backward_weight_args args = {
        .x = hb_tensor_as_2d(x->value, rows, D),
        .rstd = entry->tensor[0],
        .dy = hb_tensor_as_2d(y->grad, rows, D),
        .dweight = leaf.out,
        .epilogue = leaf.epilogue,
    };
    HB_TRY(hb_rmsnorm_backward_weight(tape->context, &args));
    return hb_leaf_end(tape->gradients, entry->param[0], 0, &leaf);
}

static hb_status rmsnorm_again(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_var *x = entry->in[0], *y = entry->out[0];
    int64_t D = entry->param[0]->value.shape[0], rows = hb_tensor_count(&x->value) / D;
    struct hb_rmsnorm_forward_args args = {
        .x = hb_tensor_as_2d(x->value, rows, D),
        .weight = entry->param[0]->value,
        .y = hb_tensor_as_2d(y->value, rows, D),
        .rstd = entry->tensor[0],
        .eps = entry->number[0],
    };
    return hb_rmsnorm_forward(tape->context, &args);
}

static const struct hb_entry_kind rmsnorm_kind = {"rmsnorm", rmsnorm_input, rmsnorm_weight, rmsnorm_again};

hb_status hb_tape_rmsnorm(struct hb_tape *tape, struct hb_var *x, struct hb_param *weight, float eps,
                          struct hb_var **out)
{
    int64_t D = weight->value.shape[0], rows = hb_tensor_count(&x->value) / D;
    struct hb_var *y = NULL;
    struct hb_buffer *buffer = NULL;
    struct hb_entry *entry = NULL;
    struct hb_tensor rstd;
    hb_status status;
    HB_TRY_CLEAN(hb_var_create(tape, HB_CLASS_ACTIVATION, 2, x->value.shape, &y));
    HB_TRY_CLEAN(hb_tape_scratch(tape, hb_real_dtype(tape->context), 1, &rows, &buffer, &rstd));
    struct hb_rmsnorm_forward_args args = {
        .x = hb_tensor_as_2d(x->value, rows, D),
        .weight = weight->value,
        .y = hb_tensor_as_2d(y->value, rows, D),
        .rstd = rstd,
        .eps = eps,
    };
    HB_TRY_CLEAN(hb_rmsnorm_forward(tape->context, &args));
    HB_TRY_CLEAN(hb_tape_record(tape, &rmsnorm_kind, 1, &x, 1, &y, &entry));
    if (entry) {
        entry->param[entry->param_count++] = weight;
        entry->tensor[0] = rstd;
        entry->number[0] = eps;
        hb_entry_save(entry, hb_buffer_share(buffer));
        hb_var_made_by(tape, entry);
    }
cleanup:
    hb_pool_drop(&tape->pool, buffer);
    if (status != HB_OK)
        hb_var_drop(tape, y);
    else
        *out = y;
    return status;
}

/* --- linears --- */

/* Of several, the sum continues in fp32 and is rounded when the last one is in. */
static hb_status linears_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_buffer *buffer;
    struct hb_tensor dx;
    struct hb_var *x = entry->in[0];
    enum hb_dtype dtype = hb_var_contribution_dtype(tape, x);
    HB_TRY(hb_tape_scratch(tape, entry->out_count > 1 ? hb_real_dtype(tape->context) : dtype, 2,
                           x->value.shape, &buffer, &dx));
    hb_status status = HB_OK;
    for (int i = 0; i < entry->out_count && status == HB_OK; i++) {
        struct hb_product_args args = {
            .form = HB_PRODUCT_NN,
            .epilogue = i ? HB_CONTINUE : HB_STORE,
            .a = entry->out[i]->grad,
            .b = entry->param[i]->value,
            .out = dx,
        };
        status = hb_product(tape->context, &args);
    }
    if (status == HB_OK)
        status = hb_tape_round(tape, dtype, &buffer, &dx);
    return hb_entry_contribute(tape, entry, &buffer, status);
}

static hb_status linears_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    HB_TRY(hb_var_remember(tape, entry->in[0]));
    for (int i = 0; i < entry->out_count; i++) {
        struct hb_leaf leaf;
        HB_TRY(hb_leaf_begin(tape->gradients, entry->param[i], 0, tape->microbatch, true, &leaf));
        struct hb_product_args args = {
            .form = HB_PRODUCT_TN,
            .epilogue = leaf.epilogue,
            .a = entry->out[i]->grad,
            .b = entry->in[0]->value,
            .out = leaf.out,
        };
        HB_TRY(hb_product(tape->context, &args));
        HB_TRY(hb_leaf_end(tape->gradients, entry->param[i], 0, &leaf));
    }
    return HB_OK;
}

static const struct hb_entry_kind linears_kind = {"linears", linears_input, linears_weight, NULL};

hb_status hb_tape_linears(struct hb_tape *tape, struct hb_var *x, int count, struct hb_param *const *weight,
                          enum hb_class class, struct hb_var **out)
{
    struct hb_var *y[3] = {NULL, NULL, NULL};
    struct hb_entry *entry = NULL;
    hb_status status;
    for (int i = 0; i < count; i++) {
        int64_t shape[2] = {x->value.shape[0], weight[i]->value.shape[0]};
        HB_TRY_CLEAN(hb_var_create(tape, class, 2, shape, &y[i]));
        struct hb_product_args args = {
            .form = HB_PRODUCT_NT, .a = x->value, .b = weight[i]->value, .out = y[i]->value};
        HB_TRY_CLEAN(hb_product(tape->context, &args));
    }
    HB_TRY_CLEAN(hb_tape_record(tape, &linears_kind, 1, &x, count, y, &entry));
    for (int i = 0; i < count; i++) {
        out[i] = y[i];
        if (entry)
            entry->param[entry->param_count++] = weight[i];
    }
    return HB_OK;
cleanup:
    for (int i = 0; i < count; i++)
        hb_var_drop(tape, y[i]);
    return status;
}

/* --- add --- */

/* Both inputs get the same gradient: they share its memory. */
static hb_status add_input(struct hb_tape *tape, struct hb_entry *entry)
{
    const struct hb_var *y = entry->out[0];
    HB_TRY(hb_var_contribute(tape, entry->in[0], y->grad.dtype, hb_buffer_share(y->grad_buffer)));
    return hb_var_contribute(tape, entry->in[1], y->grad.dtype, hb_buffer_share(y->grad_buffer));
}

static const struct hb_entry_kind add_kind = {"add", add_input, NULL, NULL};

hb_status hb_tape_add(struct hb_tape *tape, struct hb_var *a, struct hb_var *b, enum hb_class class,
                      struct hb_var **out)
{
    struct hb_var *y = NULL;
    struct hb_entry *entry;
    HB_TRY(hb_var_create(tape, class, a->value.rank, a->value.shape, &y));
    hb_status status =
        hb_add(tape->context, &(struct hb_add_args){.a = a->value, .b = b->value, .out = y->value});
    if (status == HB_OK)
        status = hb_tape_record(tape, &add_kind, 2, (struct hb_var *[]){a, b}, 1, &y, &entry);
    if (status != HB_OK)
        hb_var_drop(tape, y);
    else
        *out = y;
    return status;
}

/* --- swiglu --- */

static hb_status swiglu_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_buffer *buffer[2];
    struct hb_tensor grad[2];
    HB_TRY(hb_entry_grad_buffers(tape, entry, buffer, grad));
    struct hb_swiglu_backward_args args = {.gate = entry->in[0]->value,
                                           .up = entry->in[1]->value,
                                           .dout = entry->out[0]->grad,
                                           .dgate = grad[0],
                                           .dup = grad[1]};
    return hb_entry_contribute(tape, entry, buffer, hb_swiglu_backward(tape->context, &args));
}

static hb_status swiglu_forward(struct hb_tape *tape, const struct hb_var *gate, const struct hb_var *up,
                                struct hb_var *out)
{
    return hb_swiglu_forward(
        tape->context, &(struct hb_swiglu_forward_args){.gate = gate->value, .up = up->value,
            .out = out->value});
}

static hb_status swiglu_again(struct hb_tape *tape, struct hb_entry *entry)
{
    return swiglu_forward(tape, entry->in[0], entry->in[1], entry->out[0]);
}

static const struct hb_entry_kind swiglu_kind = {"swiglu", swiglu_input, NULL, swiglu_again};

hb_status hb_tape_swiglu(struct hb_tape *tape, struct hb_var *gate, struct hb_var *up, struct hb_var **out)
{
    struct hb_var *y = NULL;
    struct hb_entry *entry;
    HB_TRY(hb_var_create(tape, HB_CLASS_ACTIVATION, gate->value.rank, gate->value.shape, &y));
    hb_status status = swiglu_forward(tape, gate, up, y);
    if (status == HB_OK)
        status = hb_tape_record(tape, &swiglu_kind, 2, (struct hb_var *[]){gate, up}, 1, &y, &entry);
    if (status != HB_OK) {
        hb_var_drop(tape, y);
        return status;
    }
    if (entry)
        hb_var_made_by(tape, entry);
    *out = y;
    return HB_OK;
}
