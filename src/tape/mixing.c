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

enum { LSE };

static struct hb_tensor heads(struct hb_tensor t, int64_t D)
{
    return hb_tensor_as_3d(t, t.shape[0], t.shape[1] / D, D);
}

static hb_status attention_input(struct hb_tape *tape, struct hb_entry *entry)
{
    const struct hb_positions *positions = entry->extra;
    int64_t D = (int64_t)entry->number[0];
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
        .scale = entry->number[1],
        .out = heads(entry->out[0]->value, D),
        .lse = entry->tensor[LSE],
        .dout = heads(entry->out[0]->grad, D),
        .dq = heads(grad[0], D),
        .dk = heads(grad[1], D),
        .dv = heads(grad[2], D),
    };
    return hb_entry_contribute(tape, entry, buffer, hb_attention_backward(tape->context, &args));
}

static const struct hb_entry_kind attention_kind = {"attention", attention_input, NULL, NULL};

hb_status hb_tape_attention(struct hb_tape *tape, struct hb_var *q, struct hb_var *k, struct hb_var *v,
                            int64_t head_width, float scale, const struct hb_positions *positions,
                            struct hb_var **out)
{
    struct hb_var *y = NULL;
    struct hb_buffer *buffer = NULL;
    struct hb_tensor lse;
    struct hb_entry *entry;
    int64_t n = q->value.shape[0], H = q->value.shape[1] / head_width;
    hb_status status;
    HB_TRY_CLEAN(hb_var_create(tape, q->value.dtype, 2, q->value.shape, &y));
    HB_TRY_CLEAN(hb_tape_scratch(tape, hb_real_dtype(tape->context), 2, (int64_t[]){n, H}, &buffer, &lse));
    struct hb_attention_forward_args args = {
        .q = heads(q->value, head_width),
        .k = heads(k->value, head_width),
        .v = heads(v->value, head_width),
        .q_begin = positions->begin,
        .k_begin = positions->k_begin,
        .longest = positions->longest,
        .scale = scale,
        .out = heads(y->value, head_width),
        .lse = lse,
    };
    HB_TRY_CLEAN(hb_attention_forward(tape->context, &args));
    HB_TRY_CLEAN(hb_tape_record(tape, &attention_kind, 3, (struct hb_var *[]){q, k, v}, 1, &y, &entry));
    if (entry) {
        entry->tensor[LSE] = lse;
        hb_entry_save(entry, hb_buffer_share(buffer));
        entry->number[0] = (float)head_width;
        entry->number[1] = scale;
        entry->extra = positions;
    }
cleanup:
    hb_pool_drop(&tape->pool, buffer);
    if (status != HB_OK)
        hb_var_drop(tape, y);
    else
        *out = y;
    return status;
}
