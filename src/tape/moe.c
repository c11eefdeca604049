#include "tape/moe.h"

#include <stdlib.h>

#include "tape/exchange.h"
#include "tape/recompute.h"

hb_status hb_balance_begin(struct hb_context *context, struct hb_balance *balance)
{
    if (!balance->layers)
        return HB_OK;
    HB_TRY(hb_zero(context, balance->counts));
    return hb_zero(context, balance->prob_sum);
}

hb_status hb_balance_end(struct hb_context *context, struct hb_balance *balance, int64_t tokens)
{
    if (!balance->layers || balance->kind != HB_BALANCE_HF || !tokens)
        return HB_OK;
    struct hb_tensor fraction = hb_tensor_rows(balance->fraction, 0, 1);
    struct hb_balance_loss_args args = {
        .counts = balance->counts,
        .prob_sum = balance->prob_sum,
        .rows = tokens * balance->layers,
        .denominator = tokens * balance->layers,
        .fraction = hb_tensor_1d(context, fraction.data, fraction.dtype, balance->experts),
        .loss = hb_tensor_rows(balance->aux, 0, 1),
    };
    return hb_balance_loss(context, &args);
}

/* What the entry keeps, by number; tensor[i] lies in saved[i]. The first ones are
 * the layer's choices; ROWS and HIDDEN can be made again from the others. */
enum { PROBS, LSE, INDEX, WEIGHT, OFFSETS, ROW_OF, PAIR_OF, CHOICES };
enum { ROWS = CHOICES, GATE, UP, HIDDEN, EXPERT_OUT, BACK, ARRIVED, KEPT };
/* Made by backward_input for backward_weight. */
enum { DLOGITS = KEPT, TENSORS };
_Static_assert((int)TENSORS <= (int)HB_ENTRY_SAVED_MAX, "an entry must hold all of it");
_Static_assert((int)CHOICES <= (int)HB_ROUTING_MAX, "what is kept for a second run must hold them");

struct work {
    struct hb_buffer *buffer[KEPT];
    struct hb_tensor tensor[KEPT];
    struct hb_arrivals *arrivals; /* NULL: the rows here are those of this rank's own tokens */
};

static hb_status take(struct hb_tape *tape, struct work *work, int which, enum hb_dtype dtype, int64_t n0,
                      int64_t n1)
{
    return hb_tape_scratch(tape, dtype, n1 ? 2 : 1, (int64_t[]){n0, n1}, &work->buffer[which],
                           &work->tensor[which]);
}

static struct hb_tensor row_of_matrix(struct hb_tensor matrix, int64_t row)
{
    struct hb_tensor r = hb_tensor_rows(matrix, row, 1);
    return hb_tensor_1d(r.home, r.data, r.dtype, r.shape[1]);
}

static hb_status route(struct hb_tape *tape, struct hb_tensor x, const struct hb_moe *moe,
                       struct hb_balance *balance, struct work *work)
{
    int64_t n = x.shape[0], E = moe->router->value.shape[0], K = moe->top_k;
    enum hb_dtype real = hb_real_dtype(tape->context);
    struct hb_buffer *logits_buffer;
    struct hb_tensor logits, counts = row_of_matrix(balance->counts, moe->layer);
    HB_TRY(hb_tape_scratch(tape, real, 2, (int64_t[]){n, E}, &logits_buffer, &logits));
    hb_status status;
    HB_TRY_CLEAN(hb_product(tape->context, &(struct hb_product_args){.form = HB_PRODUCT_NT,
                                                                     .a = x,
                                                                     .b = moe->router->value,
                                                                     .out = logits}));
    HB_TRY_CLEAN(take(tape, work, PROBS, real, n, E));
    HB_TRY_CLEAN(take(tape, work, LSE, real, n, 0));
    HB_TRY_CLEAN(take(tape, work, INDEX, HB_I32, n, K));
    HB_TRY_CLEAN(take(tape, work, WEIGHT, real, n, K));
    struct hb_router_forward_args args = {
        .logits = logits,
        .bias = moe->router_bias ? moe->router_bias->value : (struct hb_tensor){0},
        .selection_bias = moe->selection_bias ? moe->selection_bias->value : (struct hb_tensor){0},
        .renormalise = moe->renormalise,
        .probs = work->tensor[PROBS],
        .lse = work->tensor[LSE],
        .index = work->tensor[INDEX],
        .weight = work->tensor[WEIGHT],
        .counts = counts,
    };
    HB_TRY_CLEAN(hb_router_forward(tape->context, &args));
    HB_TRY_CLEAN(hb_sum(tape->context,
                        &(struct hb_sum_args){.x = work->tensor[LSE],
                                              .squares = true,
                                              .factor = 1,
                                              .out = hb_tensor_rows(balance->z_squares, moe->layer, 1)}));
    /* `hf` sums the probabilities of all layers; the others start anew in each. */
    bool first = balance->kind != HB_BALANCE_HF || moe->layer == 0;
    HB_TRY_CLEAN(
        hb_column_sum(tape->context, &(struct hb_column_sum_args){.x = work->tensor[PROBS],
                                                                  .out = balance->prob_sum,
                                                                  .epilogue = first ? HB_STORE : HB_ADD}));
    if (balance->kind == HB_BALANCE_LAYER && n)
        HB_TRY_CLEAN(hb_balance_loss(
            tape->context,
            &(struct hb_balance_loss_args){.counts = hb_tensor_rows(balance->counts, moe->layer, 1),
                                           .prob_sum = balance->prob_sum,
                                           .rows = n,
                                           .denominator = n * K,
                                           .fraction = row_of_matrix(balance->fraction, moe->layer),
                                           .loss = hb_tensor_rows(balance->aux, moe->layer, 1)}));
    HB_TRY_CLEAN(take(tape, work, OFFSETS, HB_I32, E + 1, 0));
    HB_TRY_CLEAN(take(tape, work, ROW_OF, HB_I32, n, K));
    HB_TRY_CLEAN(take(tape, work, PAIR_OF, HB_I32, n * K, 0));
    HB_TRY_CLEAN(
        hb_dispatch_plan(tape->context, &(struct hb_dispatch_plan_args){.index = work->tensor[INDEX],
                                                                        .offsets = work->tensor[OFFSETS],
                                                                        .row_of = work->tensor[ROW_OF],
                                                                        .pair_of = work->tensor[PAIR_OF]}));
cleanup:
    hb_pool_drop(&tape->pool, logits_buffer);
    return status;
}

/* Chooses, or takes the choices of a first run. */
static hb_status choose(struct hb_tape *tape, struct hb_tensor x, const struct hb_moe *moe,
                        struct hb_balance *balance, struct work *work)
{
    struct hb_routing *routing = tape->routing;
    if (!routing)
        return route(tape, x, moe, balance, work);
    if (!routing->kept)
        HB_TRY(route(tape, x, moe, balance, work));
    for (int i = 0; i < CHOICES; i++) {
        if (routing->kept) {
            work->buffer[i] = hb_buffer_share(routing->buffer[i]);
            work->tensor[i] = routing->tensor[i];
        } else {
            routing->buffer[i] = hb_buffer_share(work->buffer[i]);
            routing->tensor[i] = work->tensor[i];
        }
    }
    return HB_OK;
}

static hb_status grouped(struct hb_tape *tape, enum hb_product_form form, enum hb_product_epilogue epilogue,
                         struct hb_tensor a, struct hb_tensor b, struct hb_tensor out,
                         struct hb_tensor offsets, struct hb_tensor present)
{
    return hb_product(tape->context, &(struct hb_product_args){.form = form,
                                                               .epilogue = epilogue,
                                                               .a = a,
                                                               .b = b,
                                                               .out = out,
                                                               .offsets = offsets,
                                                               .present = present});
}

static const struct hb_tensor none = {0};

static enum hb_dtype type(const struct hb_tape *tape, enum hb_class class)
{
    return hb_class_dtype(tape->context, tape->precision, class);
}

/* The rows of source s: all, where there is no exchange. */
struct source {
    int64_t begin, rows, microbatch;
    struct hb_tensor offsets;
};

static int64_t source_count(const struct hb_arrivals *arrivals)
{
    return arrivals ? arrivals->sources : 1;
}

static struct source source_of(const struct hb_tape *tape, const struct hb_tensor *t,
                               const struct hb_arrivals *arrivals, int64_t s)
{
    if (!arrivals)
        return (struct source){0, t[ROWS].shape[0], tape->microbatch, t[OFFSETS]};
    int64_t each = t[ARRIVED].shape[0] / arrivals->sources;
    return (struct source){arrivals->source[s].begin, arrivals->source[s].rows,
                           arrivals->source[s].microbatch, hb_tensor_rows(t[ARRIVED], s * each, each)};
}

/* A product of rows with the experts' matrices, source by source: no row depends on the others. */
static hb_status expert_product(struct hb_tape *tape, const struct hb_tensor *t,
                                const struct hb_arrivals *arrivals, enum hb_product_form form,
                                enum hb_product_epilogue epilogue, struct hb_tensor a, struct hb_tensor b,
                                struct hb_tensor out)
{
    for (int64_t s = 0; s < source_count(arrivals); s++) {
        struct source from = source_of(tape, t, arrivals, s);
        hb_trace_rows_of(tape->context, from.microbatch);
        if (from.rows)
            HB_TRY(grouped(tape, form, epilogue, hb_tensor_rows(a, from.begin, from.rows), b,
                           hb_tensor_rows(out, from.begin, from.rows), from.offsets, none));
    }
    hb_trace_rows_of(tape->context, tape->microbatch);
    return HB_OK;
}

/* The tokens' rows, sorted by expert; then the rows that the experts here work on. */
static hb_status dispatch(struct hb_tape *tape, struct hb_tensor x, const struct hb_moe *moe,
                          struct work *work)
{
    struct hb_tensor *t = work->tensor, own;
    struct hb_exchange *exchange = tape->exchange;
    int64_t pairs = x.shape[0] * moe->top_k, C = x.shape[1], here = moe->gate->value.shape[0];
    enum hb_dtype dtype = type(tape, HB_CLASS_DISPATCHED);
    struct hb_buffer *buffer;
    if (!exchange) {
        HB_TRY(take(tape, work, ROWS, dtype, pairs, C));
        return hb_dispatch_forward(
            tape->context,
            &(struct hb_dispatch_forward_args){.x = x, .pair_of = t[PAIR_OF], .rows = t[ROWS]});
    }
    HB_TRY(exchange->meet(exchange, t[OFFSETS], moe->layer, tape->microbatch, &work->arrivals));
    HB_TRY(take(tape, work, ARRIVED, HB_I32, work->arrivals->sources * (here + 1), 0));
    HB_TRY(hb_copy_in(tape->context, t[ARRIVED], work->arrivals->offsets));
    HB_TRY(take(tape, work, ROWS, dtype, work->arrivals->rows, C));
    HB_TRY(hb_tape_scratch(tape, dtype, 2, (int64_t[]){pairs, C}, &buffer, &own));
    hb_status status = hb_dispatch_forward(
        tape->context, &(struct hb_dispatch_forward_args){.x = x, .pair_of = t[PAIR_OF], .rows = own});
    if (status == HB_OK)
        status = exchange->dispatch(exchange, work->arrivals, own, t[ROWS]);
    hb_pool_drop(&tape->pool, buffer);
    return status;
}

/* The experts' rows on their way back to the tokens. */
static hb_status bring_back(struct hb_tape *tape, const struct hb_moe *moe, int64_t n, struct work *work)
{
    struct hb_tensor *t = work->tensor;
    if (!work->arrivals) {
        work->buffer[BACK] = hb_buffer_share(work->buffer[EXPERT_OUT]);
        t[BACK] = t[EXPERT_OUT];
        return HB_OK;
    }
    HB_TRY(take(tape, work, BACK, t[EXPERT_OUT].dtype, n * moe->top_k, t[EXPERT_OUT].shape[1]));
    return tape->exchange->combine(tape->exchange, work->arrivals, t[EXPERT_OUT], t[BACK]);
}

static hb_status experts(struct hb_tape *tape, struct hb_tensor x, const struct hb_moe *moe,
                         struct work *work, struct hb_tensor y)
{
    struct hb_tensor *t = work->tensor;
    HB_TRY(dispatch(tape, x, moe, work));
    const struct hb_arrivals *from = work->arrivals;
    int64_t rows = t[ROWS].shape[0], C = x.shape[1], F = moe->gate->value.shape[1];
    HB_TRY(take(tape, work, GATE, type(tape, HB_CLASS_ACTIVATION), rows, F));
    HB_TRY(take(tape, work, UP, type(tape, HB_CLASS_ACTIVATION), rows, F));
    HB_TRY(take(tape, work, HIDDEN, type(tape, HB_CLASS_ACTIVATION), rows, F));
    HB_TRY(take(tape, work, EXPERT_OUT, type(tape, HB_CLASS_COMBINED), rows, C));
    HB_TRY(expert_product(tape, t, from, HB_PRODUCT_NT, HB_STORE, t[ROWS], moe->gate->value, t[GATE]));
    HB_TRY(expert_product(tape, t, from, HB_PRODUCT_NT, HB_STORE, t[ROWS], moe->up->value, t[UP]));
    HB_TRY(hb_swiglu_forward(tape->context,
                             &(struct hb_swiglu_forward_args){.gate = t[GATE],
                                                              .up = t[UP],
                                                              .out = t[HIDDEN]}));
    HB_TRY(
        expert_product(tape, t, from, HB_PRODUCT_NT, HB_STORE, t[HIDDEN], moe->down->value, t[EXPERT_OUT]));
    HB_TRY(bring_back(tape, moe, x.shape[0], work));
    return hb_combine_forward(tape->context, &(struct hb_combine_forward_args){.rows = t[BACK],
                                                                               .row_of = t[ROW_OF],
                                                                               .weight = t[WEIGHT],
                                                                               .y = y});
}

/* dLogits of the router: from the expert weights, the balance loss, the z-loss. */
static hb_status router_gradient(struct hb_tape *tape, const struct hb_moe *moe,
                                 const struct hb_balance *balance, struct hb_tensor *t,
                                 struct hb_tensor dweight, struct hb_tensor dlogits)
{
    int64_t n = t[PROBS].shape[0];
    bool aux = n && balance->aux_factor != 0 &&
               (balance->kind == HB_BALANCE_HF || balance->kind == HB_BALANCE_LAYER);
    bool whole_model = balance->kind == HB_BALANCE_HF;
    struct hb_router_backward_args args = {
        .probs = t[PROBS],
        .lse = t[LSE],
        .index = t[INDEX],
        .weight = t[WEIGHT],
        .dweight = dweight,
        .renormalise = moe->renormalise,
        .fraction = aux ? row_of_matrix(balance->fraction, whole_model ? 0 : moe->layer) : none,
        .aux_factor = balance->aux_factor,
        .aux_rows = whole_model ? n * balance->layers : n,
        .z_factor = balance->z_factor,
        .dlogits = dlogits,
    };
    return hb_router_backward(tape->context, &args);
}

/* ROWS or HIDDEN, if they were forgotten; HIDDEN as long as gate and up stand. */
static hb_status remember(struct hb_tape *tape, struct hb_entry *entry, int which)
{
    struct hb_tensor *t = entry->tensor;
    if (t[which].data)
        return HB_OK;
    struct hb_buffer *buffer;
    HB_TRY(hb_var_remember(tape, entry->in[0]));
    HB_TRY(hb_tape_scratch(tape, t[which].dtype, 2, t[which].shape, &buffer, &t[which]));
    hb_entry_save(entry, buffer);
    hb_trace_at(tape->context, entry->place, "recompute");
    if (which == ROWS)
        return hb_dispatch_forward(tape->context, &(struct hb_dispatch_forward_args){.x = entry->in[0]->value,
                                                                                     .pair_of = t[PAIR_OF],
                                                                                     .rows = t[ROWS]});
    return hb_swiglu_forward(tape->context,
                             &(struct hb_swiglu_forward_args){.gate = t[GATE],
                                                              .up = t[UP],
                                                              .out = t[HIDDEN]});
}

/* Memory for the gradient of tensor `which`: its own, if elements have the same size. */
static hb_status take_gradient(struct hb_tape *tape, struct hb_entry *entry, int which, enum hb_class class,
                               struct hb_tensor *out)
{
    enum hb_dtype dtype = hb_class_grad_dtype(tape->context, tape->precision, class);
    struct hb_buffer *buffer;
    *out = entry->tensor[which];
    out->dtype = dtype;
    if (hb_dtype_size(dtype) == hb_dtype_size(entry->tensor[which].dtype))
        return HB_OK;
    HB_TRY(hb_tape_scratch(tape, dtype, 2, out->shape, &buffer, out));
    hb_entry_save(entry, buffer);
    return HB_OK;
}

/* Gradients of gate and up from that of the experts' output rows. They take the
 * place of gate and up in the entry, the gradient of the expert rows that of the rows. */
static hb_status expert_gradients(struct hb_tape *tape, struct hb_entry *entry, struct hb_tensor dy,
                                  struct hb_tensor dweight)
{
    const struct hb_moe *moe = entry->extra;
    const struct hb_arrivals *from = entry->arrivals;
    struct hb_tensor *t = entry->tensor, drows, dgate, dup, dhidden;
    struct hb_buffer *buffer;
    enum hb_dtype dtype = hb_class_grad_dtype(tape->context, tape->precision, HB_CLASS_ACTIVATION);
    HB_TRY(take_gradient(tape, entry, BACK, HB_CLASS_COMBINED, &drows));
    HB_TRY(hb_combine_backward(tape->context, &(struct hb_combine_backward_args){.rows = t[BACK],
                                                                                 .row_of = t[ROW_OF],
                                                                                 .weight = t[WEIGHT],
                                                                                 .dy = dy,
                                                                                 .drows = drows,
                                                                                 .dweight = dweight}));
    if (from) {
        struct hb_tensor arrived;
        HB_TRY(take_gradient(tape, entry, EXPERT_OUT, HB_CLASS_COMBINED, &arrived));
        HB_TRY(tape->exchange->dispatch(tape->exchange, from, drows, arrived));
        drows = arrived;
    }
    t[EXPERT_OUT] = drows;
    HB_TRY(take_gradient(tape, entry, GATE, HB_CLASS_ACTIVATION, &dgate));
    HB_TRY(take_gradient(tape, entry, UP, HB_CLASS_ACTIVATION, &dup));
    HB_TRY(hb_tape_scratch(tape, dtype, 2, t[HIDDEN].shape, &buffer, &dhidden));
    hb_status status;
    HB_TRY_CLEAN(expert_product(tape, t, from, HB_PRODUCT_NN, HB_STORE, drows, moe->down->value, dhidden));
    HB_TRY_CLEAN(hb_swiglu_backward(tape->context, &(struct hb_swiglu_backward_args){.gate = t[GATE],
                                                                                     .up = t[UP],
                                                                                     .dout = dhidden,
                                                                                     .dgate = dgate,
                                                                                     .dup = dup}));
    t[GATE] = dgate;
    t[UP] = dup;
cleanup:
    hb_pool_drop(&tape->pool, buffer);
    return status;
}

/* The gradients of the rows that came from elsewhere go back there. */
static hb_status return_gradients(struct hb_tape *tape, const struct hb_arrivals *from, int64_t pairs,
                                  struct hb_buffer **buffer, struct hb_tensor *drows)
{
    if (!from)
        return HB_OK;
    struct hb_buffer *own_buffer;
    struct hb_tensor own;
    HB_TRY(hb_tape_scratch(tape, drows->dtype, 2, (int64_t[]){pairs, drows->shape[1]}, &own_buffer, &own));
    hb_status status = tape->exchange->combine(tape->exchange, from, *drows, own);
    hb_pool_drop(&tape->pool, *buffer);
    *buffer = own_buffer;
    *drows = own;
    return status;
}

/* Sums are made in fp32 and rounded when they are finished: the gradient of the
 * dispatched rows over gate and up, that of a token over its slots and the router. */
static hb_status moe_input(struct hb_tape *tape, struct hb_entry *entry)
{
    const struct hb_moe *moe = entry->extra;
    const struct hb_arrivals *from = entry->arrivals;
    struct hb_tensor *t = entry->tensor;
    struct hb_var *x = entry->in[0];
    struct hb_buffer *dweight_buffer = NULL, *dlogits_buffer = NULL, *drows_buffer = NULL, *dx_buffer = NULL;
    struct hb_tensor dweight, drows, dx;
    enum hb_dtype real = hb_real_dtype(tape->context);
    hb_status status;
    HB_TRY_CLEAN(remember(tape, entry, HIDDEN));
    HB_TRY_CLEAN(hb_tape_scratch(tape, t[WEIGHT].dtype, 2, t[WEIGHT].shape, &dweight_buffer, &dweight));
    HB_TRY_CLEAN(expert_gradients(tape, entry, entry->out[0]->grad, dweight));
    HB_TRY_CLEAN(hb_tape_scratch(tape, t[PROBS].dtype, 2, t[PROBS].shape, &dlogits_buffer, &t[DLOGITS]));
    HB_TRY_CLEAN(router_gradient(tape, moe, entry->carry, t, dweight, t[DLOGITS]));

    HB_TRY_CLEAN(hb_tape_scratch(tape, real, 2, t[ROWS].shape, &drows_buffer, &drows));
    HB_TRY_CLEAN(expert_product(tape, t, from, HB_PRODUCT_NN, HB_STORE, t[GATE], moe->gate->value, drows));
    HB_TRY_CLEAN(expert_product(tape, t, from, HB_PRODUCT_NN, HB_CONTINUE, t[UP], moe->up->value, drows));
    HB_TRY_CLEAN(hb_tape_round(tape, hb_class_grad_dtype(tape->context, tape->precision, HB_CLASS_DISPATCHED),
                               &drows_buffer, &drows));
    HB_TRY_CLEAN(return_gradients(tape, from, hb_tensor_count(&t[ROW_OF]), &drows_buffer, &drows));
    HB_TRY_CLEAN(hb_tape_scratch(tape, real, 2, x->value.shape, &dx_buffer, &dx));
    HB_TRY_CLEAN(hb_dispatch_backward(
        tape->context, &(struct hb_dispatch_backward_args){.drows = drows, .row_of = t[ROW_OF], .dx = dx}));
    HB_TRY_CLEAN(grouped(tape, HB_PRODUCT_NN, HB_ADD, t[DLOGITS], moe->router->value, dx, none, none));
    HB_TRY_CLEAN(hb_tape_round(tape, hb_var_contribution_dtype(tape, x), &dx_buffer, &dx));
    HB_TRY_CLEAN(hb_var_contribute(tape, x, dx.dtype, hb_buffer_share(dx_buffer)));
    hb_entry_save(entry, hb_buffer_share(dlogits_buffer));
cleanup:
    hb_pool_drop(&tape->pool, dweight_buffer);
    hb_pool_drop(&tape->pool, dlogits_buffer);
    hb_pool_drop(&tape->pool, drows_buffer);
    hb_pool_drop(&tape->pool, dx_buffer);
    return status;
}

/* dW = a^T b of the experts: a leaf for each microbatch whose rows are here. */
static hb_status expert_leaves(struct hb_tape *tape, const struct hb_entry *entry, struct hb_param *param,
                               struct hb_tensor a, struct hb_tensor b)
{
    const struct hb_arrivals *arrivals = entry->arrivals;
    for (int64_t s = 0; s < source_count(arrivals); s++) {
        struct source from = source_of(tape, entry->tensor, arrivals, s);
        struct hb_leaf leaf;
        if (arrivals && from.microbatch < 0)
            continue;
        hb_trace_rows_of(tape->context, from.microbatch);
        HB_TRY(hb_leaf_begin(tape->gradients, param, 0, from.microbatch, true, &leaf));
        if (from.rows)
            HB_TRY(grouped(tape, HB_PRODUCT_TN, leaf.epilogue, hb_tensor_rows(a, from.begin, from.rows),
                           hb_tensor_rows(b, from.begin, from.rows), leaf.out, from.offsets, leaf.present));
        HB_TRY(hb_leaf_end(tape->gradients, param, 0, &leaf));
    }
    hb_trace_rows_of(tape->context, tape->microbatch);
    return HB_OK;
}

static hb_status moe_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    const struct hb_moe *moe = entry->extra;
    struct hb_tensor *t = entry->tensor;
    struct hb_var *x = entry->in[0];
    HB_TRY(hb_var_remember(tape, x));
    HB_TRY(remember(tape, entry, ROWS));
    HB_TRY(expert_leaves(tape, entry, moe->down, t[EXPERT_OUT], t[HIDDEN]));
    HB_TRY(expert_leaves(tape, entry, moe->gate, t[GATE], t[ROWS]));
    HB_TRY(expert_leaves(tape, entry, moe->up, t[UP], t[ROWS]));
    struct hb_leaf leaf;
    HB_TRY(hb_leaf_begin(tape->gradients, moe->router, 0, tape->microbatch, true, &leaf));
    HB_TRY(grouped(tape, HB_PRODUCT_TN, leaf.epilogue, t[DLOGITS], x->value, leaf.out, none, none));
    HB_TRY(hb_leaf_end(tape->gradients, moe->router, 0, &leaf));
    if (!moe->router_bias)
        return HB_OK;
    HB_TRY(hb_leaf_begin(tape->gradients, moe->router_bias, 0, tape->microbatch, true, &leaf));
    HB_TRY(hb_column_sum(tape->context, &(struct hb_column_sum_args){
                                            .x = t[DLOGITS], .out = leaf.out, .epilogue = leaf.epilogue}));
    return hb_leaf_end(tape->gradients, moe->router_bias, 0, &leaf);
}

static const struct hb_entry_kind moe_kind = {"moe", moe_input, moe_weight, NULL};

hb_status hb_tape_moe(struct hb_tape *tape, struct hb_var *x, const struct hb_moe *moe,
                      struct hb_balance *balance, const struct hb_choices *choices, struct hb_var **out)
{
    struct work work = {0};
    struct hb_var *y = NULL;
    struct hb_entry *entry;
    hb_status status;
    HB_TRY_CLEAN(hb_var_create(tape, HB_CLASS_RESIDUAL, 2, x->value.shape, &y));
    HB_TRY_CLEAN(choose(tape, x->value, moe, balance, &work));
    HB_TRY_CLEAN(experts(tape, x->value, moe, &work, y->value));
    if (choices && choices->index.data)
        HB_TRY_CLEAN(hb_copy(tape->context, choices->index, work.tensor[INDEX]));
    if (choices && choices->weight.data)
        HB_TRY_CLEAN(hb_copy(tape->context, choices->weight, work.tensor[WEIGHT]));
    HB_TRY_CLEAN(hb_tape_record(tape, &moe_kind, 1, &x, 1, &y, &entry));
    if (entry) {
        entry->extra = moe;
        entry->carry = balance;
        entry->arrivals = work.arrivals;
        work.arrivals = NULL;
        for (int i = 0; i < KEPT; i++) {
            entry->tensor[i] = work.tensor[i];
            /* Rows from elsewhere would have to travel again: they stay. */
            if (tape->forgetful && ((i == ROWS && !entry->arrivals) || i == HIDDEN))
                entry->tensor[i].data = NULL;
            else if (work.buffer[i])
                hb_entry_save(entry, hb_buffer_share(work.buffer[i]));
        }
    }
cleanup:
    for (int i = 0; i < KEPT; i++)
        hb_pool_drop(&tape->pool, work.buffer[i]);
    free(work.arrivals);
    if (status != HB_OK)
        hb_var_drop(tape, y);
    else
        *out = y;
    return status;
}
