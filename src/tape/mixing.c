/* The layers in which tokens meet or know their place: rope and attention. */
#include "tape/layers.h"
#include "tape/recompute.h"

/* --- rope, in place --- */

static hb_status rotate(struct hb_tape *tape, struct hb_tensor x, struct hb_tensor y, int64_t D,
                        const struct hb_positions *positions, bool backward)
{
    int64_t n = x.shape[0], heads = x.shape[1] / D;
    return hb_rope(tape->context, &(struct hb_rope_args){.x = hb_tensor_as_3d(x, n, heads, D),
                                                         .positions = positions->place,
                                                         .cosine = positions->cosine,
                                                         .sine = positions->sine,
                                                         .y = hb_tensor_as_3d(y, n, heads, D),
                                                         .backward = backward});
}

/* The variable is both input and output: its gradient, complete by now, is
 * turned back where it stands, unless another variable shares that memory. */
static hb_status rope_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_var *x = entry->out[0];
    struct hb_buffer *buffer;
    struct hb_tensor turned = x->grad;
    if (x->grad_buffer->references == 1)
        buffer = hb_buffer_share(x->grad_buffer);
    else
        HB_TRY(hb_var_grad_buffer(tape, x, &buffer, &turned));
    hb_status status = rotate(tape, x->grad, turned, (int64_t)entry->number[0], entry->extra, true);
    hb_pool_drop(&tape->pool, x->grad_buffer);
    x->grad_buffer = buffer;
    x->grad = turned;
    return status;
}

static hb_status rope_again(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_tensor x = entry->out[0]->value;
    return rotate(tape, x, x, (int64_t)entry->number[0], entry->extra, false);
}

static const struct hb_entry_kind rope_kind = {"rope", rope_input, NULL, rope_again};

hb_status hb_tape_rope(struct hb_tape *tape, struct hb_var *x, int64_t head_width,
                       const struct hb_positions *positions)
{
    struct hb_entry *entry;
    HB_TRY(rotate(tape, x->value, x->value, head_width, positions, false));
    HB_TRY(hb_tape_record(tape, &rope_kind, 0, NULL, 1, &x, &entry));
    if (entry) {
        entry->number[0] = (float)head_width;
        entry->extra = positions;
        if (x->maker_count) /* what made it can be run again before */
            hb_var_made_by(tape, entry);
    }
    return HB_OK;
}

/* --- attention --- */

enum { LSE, REST, SLOTS, SLOTS_LSE, KEPT };

static struct hb_tensor heads(struct hb_tensor t, int64_t D)
{
    return hb_tensor_as_3d(t, t.shape[0], t.shape[1] / D, D);
}

/* A parameter as the op's argument; data NULL where the layer has none. */
static struct hb_tensor slots(const struct hb_param *param, int64_t D)
{
    return param ? heads(param->value, D) : (struct hb_tensor){0};
}

/* Where the gradients of a layer's memory go: leaves for dslots_k, dslots_v, dgate. */
static hb_status begin_leaves(struct hb_tape *tape, const struct hb_entry *entry, struct hb_leaf leaf[3],
                              struct hb_attention_backward_args *args)
{
    struct hb_tensor *out[3] = {&args->dslots_k, &args->dslots_v, &args->dgate};
    for (int i = 0; i < entry->param_count; i++) {
        HB_TRY(hb_leaf_begin(tape->gradients, entry->param[i], 0, tape->microbatch, false, &leaf[i]));
        *out[i] = i < 2 ? heads(leaf[i].out, args->q.shape[2]) : leaf[i].out;
    }
    return HB_OK;
}

static hb_status run_backward(struct hb_tape *tape, const struct hb_entry *entry,
                              struct hb_attention_backward_args *args)
{
    struct hb_leaf leaf[3];
    HB_TRY(begin_leaves(tape, entry, leaf, args));
    HB_TRY(hb_attention_backward(tape->context, args));
    for (int i = 0; i < entry->param_count; i++)
        HB_TRY(hb_leaf_end(tape->gradients, entry->param[i], 0, &leaf[i]));
    return HB_OK;
}

static hb_status attention_input(struct hb_tape *tape, struct hb_entry *entry)
{
    const struct hb_attention_layer *layer = entry->extra;
    const struct hb_positions *positions = entry->carry;
    int64_t D = layer->head_width;
    bool joint = layer->combine == HB_JOINT;
    struct hb_buffer *buffer[3];
    struct hb_tensor grad[3];
    for (int i = 0; i < 3; i++)
        HB_TRY(hb_var_remember(tape, entry->in[i]));
    HB_TRY(hb_entry_grad_buffers(tape, entry, buffer, grad));
    struct hb_attention_backward_args args = {
        .q = heads(entry->in[0]->value, D),
        .k = heads(entry->in[1]->value, D),
        .v = heads(entry->in[2]->value, D),
        .q_begin = positions->begin,
        .k_begin = positions->k_begin,
        .longest = positions->longest,
        .scale = layer->scale,
        .window = layer->window,
        .sinks = layer->sinks,
        .combine = layer->combine,
        .slots_k = slots(layer->memory_k, D),
        .slots_v = slots(layer->memory_v, D),
        .gate = layer->memory_gate ? layer->memory_gate->value : (struct hb_tensor){0},
        .out = joint ? heads(entry->out[0]->value, D) : entry->tensor[REST],
        .lse = entry->tensor[LSE],
        .slots_out = entry->tensor[SLOTS],
        .slots_lse = entry->tensor[SLOTS_LSE],
        .dout = heads(entry->out[0]->grad, D),
        .dq = heads(grad[0], D),
        .dk = heads(grad[1], D),
        .dv = heads(grad[2], D),
    };
    return hb_entry_contribute(tape, entry, buffer, run_backward(tape, entry, &args));
}

static const struct hb_entry_kind attention_kind = {"attention", attention_input, NULL, NULL};

/* What forward leaves for backward besides its output. */
static hb_status keep(struct hb_tape *tape, const struct hb_attention_layer *layer, const struct hb_tensor *q,
                      struct hb_buffer *buffer[KEPT], struct hb_tensor kept[KEPT])
{
    enum hb_dtype real = hb_real_dtype(tape->context);
    int64_t H = q->shape[1] / layer->head_width, rows[] = {q->shape[0], H},
            all[] = {q->shape[0], H, layer->head_width};
    HB_TRY(hb_tape_scratch(tape, real, 2, rows, &buffer[LSE], &kept[LSE]));
    if (layer->combine == HB_JOINT)
        return HB_OK;
    HB_TRY(hb_tape_scratch(tape, q->dtype, 3, all, &buffer[REST], &kept[REST]));
    HB_TRY(hb_tape_scratch(tape, q->dtype, 3, all, &buffer[SLOTS], &kept[SLOTS]));
    return hb_tape_scratch(tape, real, 2, rows, &buffer[SLOTS_LSE], &kept[SLOTS_LSE]);
}

static void record(struct hb_entry *entry, const struct hb_attention_layer *layer,
                   struct hb_positions *positions, struct hb_buffer *const buffer[KEPT],
                   const struct hb_tensor kept[KEPT])
{
    struct hb_param *params[] = {layer->memory_k, layer->memory_v, layer->memory_gate};
    for (int i = 0; i < KEPT; i++) {
        entry->tensor[i] = kept[i];
        if (buffer[i])
            hb_entry_save(entry, hb_buffer_share(buffer[i]));
    }
    for (int i = 0; i < 3 && params[i]; i++)
        entry->param[entry->param_count++] = params[i];
    entry->extra = layer;
    entry->carry = positions;
}

hb_status hb_tape_attention(struct hb_tape *tape, const struct hb_attention_layer *layer,
                            struct hb_positions *positions, struct hb_var *q, struct hb_var *k,
                            struct hb_var *v, struct hb_var **out)
{
    struct hb_var *y = NULL;
    struct hb_buffer *buffer[KEPT] = {NULL};
    struct hb_tensor kept[KEPT] = {{0}};
    struct hb_entry *entry;
    int64_t D = layer->head_width;
    hb_status status;
    HB_TRY_CLEAN(hb_var_create(tape, HB_CLASS_ACTIVATION, 2, q->value.shape, &y));
    HB_TRY_CLEAN(keep(tape, layer, &q->value, buffer, kept));
    struct hb_attention_forward_args args = {
        .q = heads(q->value, D),
        .k = heads(k->value, D),
        .v = heads(v->value, D),
        .q_begin = positions->begin,
        .k_begin = positions->k_begin,
        .longest = positions->longest,
        .scale = layer->scale,
        .window = layer->window,
        .sinks = layer->sinks,
        .ring = layer->ring,
        .combine = layer->combine,
        .slots_k = slots(layer->memory_k, D),
        .slots_v = slots(layer->memory_v, D),
        .gate = layer->memory_gate ? layer->memory_gate->value : (struct hb_tensor){0},
        .out = heads(y->value, D),
        .lse = kept[LSE],
        .rest_out = kept[REST],
        .slots_out = kept[SLOTS],
        .slots_lse = kept[SLOTS_LSE],
    };
    HB_TRY_CLEAN(hb_attention_forward(tape->context, &args));
    HB_TRY_CLEAN(hb_tape_record(tape, &attention_kind, 3, (struct hb_var *[]){q, k, v}, 1, &y, &entry));
    if (entry)
        record(entry, layer, positions, buffer, kept);
cleanup:
    for (int i = 0; i < KEPT; i++)
        hb_pool_drop(&tape->pool, buffer[i]);
    if (status != HB_OK)
        hb_var_drop(tape, y);
    else
        *out = y;
    return status;
}
