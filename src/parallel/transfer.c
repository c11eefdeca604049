/* What passes between the stages of a pipeline.
 *
 * Forward: the residual [n, C] in its stored dtype; if the balance loss is over
 * all layers, the counts so far and the sums of probabilities so far. Backward:
 * the gradient of the residual, and with it the finished fractions. */
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "parallel/lane.h"

struct hb_outgoing {
    struct hb_comm_request request;
    void *memory;
    size_t bytes;
    struct hb_outgoing *next;
};

/* Memory of a message that is made or received. */
static hb_status take(struct hb_executor *e, size_t bytes, void **memory)
{
    HB_TRY(hb_wire_alloc(&e->mesh->wire, bytes, memory));
    e->message_bytes += (int64_t)bytes;
    if (e->message_bytes > e->message_peak)
        e->message_peak = e->message_bytes;
    return HB_OK;
}

static void give(struct hb_executor *e, void *memory, size_t bytes)
{
    hb_wire_free(&e->mesh->wire, memory);
    e->message_bytes -= memory ? (int64_t)bytes : 0;
}

static bool has_balance(const struct hb_lane *lane)
{
    return lane->carry.balance.layers > 0 && lane->carry.balance.kind == HB_BALANCE_HF;
}

/* Up to three tensors make a message. */
struct message {
    struct hb_tensor part[3];
    int parts;
};

static void add(struct message *message, struct hb_tensor t)
{
    message->part[message->parts++] = t;
}

static size_t bytes_of(const struct message *message)
{
    size_t bytes = 0;
    for (int i = 0; i < message->parts; i++)
        bytes += hb_tensor_bytes(&message->part[i]);
    return bytes;
}

static struct message forward_message(const struct hb_lane *lane, struct hb_tensor residual)
{
    struct message message = {.parts = 0};
    add(&message, residual);
    if (has_balance(lane)) {
        add(&message, lane->carry.balance.counts);
        add(&message, lane->carry.balance.prob_sum);
    }
    return message;
}

static struct message backward_message(const struct hb_lane *lane, struct hb_tensor gradient)
{
    struct message message = {.parts = 0};
    add(&message, gradient);
    if (has_balance(lane))
        add(&message, hb_tensor_rows(lane->carry.balance.fraction, 0, 1));
    return message;
}

/* Frees what has arrived; with `all`, waits for it. */
static hb_status progress(struct hb_executor *e, bool all)
{
    struct hb_outgoing **at = &e->outgoing;
    while (*at) {
        struct hb_outgoing *o = *at;
        if (all)
            HB_TRY(hb_comm_wait(e->mesh->wire.pipe, &o->request, 1));
        else
            HB_TRY(hb_comm_test(e->mesh->wire.pipe, &o->request));
        if (!o->request.done) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        give(e, o->memory, o->bytes);
        free(o);
    }
    return HB_OK;
}

hb_status hb_transfers_finish(struct hb_executor *e)
{
    return progress(e, true);
}

void hb_transfers_drop(struct hb_executor *e)
{
    while (e->outgoing) {
        struct hb_outgoing *o = e->outgoing;
        e->outgoing = o->next;
        give(e, o->memory, o->bytes);
        free(o);
    }
}

static hb_status send(struct hb_executor *e, int stage, const struct message *message)
{
    HB_TRY(progress(e, false));
    HB_TRY(hb_fault_point(HB_FAULT_EXCHANGE));
    struct hb_outgoing *o = calloc(1, sizeof *o);
    if (!o)
        return HB_FAIL(HB_EMEMORY, "out of memory for a message");
    o->bytes = bytes_of(message);
    hb_status status = take(e, o->bytes, &o->memory);
    char *at = o->memory;
    for (int i = 0; status == HB_OK && i < message->parts; i++) {
        status = hb_wire_put(&e->mesh->wire, at, message->part[i]);
        at += hb_tensor_bytes(&message->part[i]);
    }
    if (status == HB_OK)
        status = hb_comm_send(e->mesh->wire.pipe, e->stages->rank_of[stage], o->memory, o->bytes,
                              &o->request);
    if (status != HB_OK) {
        give(e, o->memory, o->bytes);
        free(o);
        return status;
    }
    o->next = e->outgoing;
    e->outgoing = o;
    return HB_OK;
}

static hb_status receive(struct hb_executor *e, int stage, const struct message *message)
{
    void *memory;
    struct hb_comm_request request;
    HB_TRY(take(e, bytes_of(message), &memory));
    hb_status status =
        hb_comm_receive(e->mesh->wire.pipe, e->stages->rank_of[stage], memory, bytes_of(message), &request);
    if (status == HB_OK)
        status = hb_comm_wait(e->mesh->wire.pipe, &request, 1);
    const char *at = memory;
    for (int i = 0; status == HB_OK && i < message->parts; i++) {
        status = hb_wire_get(&e->mesh->wire, message->part[i], at);
        at += hb_tensor_bytes(&message->part[i]);
    }
    give(e, memory, bytes_of(message));
    return status;
}

/* --- forward --- */

static void drop_output(struct hb_lane *lane)
{
    hb_var_drop(&lane->tape, lane->output);
    lane->output = NULL;
}

/* A lane that trains keeps its output until the gradient comes. */
hb_status hb_send_forward(struct hb_executor *e, struct hb_lane *lane)
{
    struct message message = forward_message(lane, lane->output->value);
    HB_TRY(send(e, lane->stage + 1, &message));
    if (!hb_tape_recording(&lane->tape))
        drop_output(lane);
    return HB_OK;
}

static void set_input(struct hb_lane *lane, struct hb_var *x)
{
    lane->carry.residual = x;
    lane->input = hb_tape_recording(&lane->tape) ? hb_var_share(x) : NULL;
}

hb_status hb_receive_forward(struct hb_executor *e, struct hb_lane *lane)
{
    struct hb_var *x;
    int64_t shape[2] = {lane->carry.ids.shape[0], e->model->config.hidden_size};
    HB_TRY(hb_var_create(&lane->tape, HB_CLASS_BLOCK, 2, shape, &x));
    set_input(lane, x);
    struct message message = forward_message(lane, x->value);
    return receive(e, lane->stage - 1, &message);
}

hb_status hb_hand_forward(struct hb_executor *e, struct hb_lane *from, struct hb_lane *to)
{
    struct hb_var *x = calloc(1, sizeof *x);
    if (!x)
        return HB_FAIL(HB_EMEMORY, "out of memory for a variable");
    *x = (struct hb_var){.value = from->output->value,
                         .buffer = hb_buffer_share(from->output->buffer),
                         .references = 1,
                         .grad_dtype = from->output->grad_dtype};
    to->tape.live_vars++;
    set_input(to, x);
    struct message source = forward_message(from, x->value), target = forward_message(to, x->value);
    for (int i = 1; i < source.parts; i++)
        HB_TRY(hb_copy(e->context, target.part[i], source.part[i]));
    if (!hb_tape_recording(&from->tape))
        drop_output(from);
    return HB_OK;
}

/* --- backward --- */

static void drop_input(struct hb_lane *lane)
{
    hb_var_drop(&lane->tape, lane->input);
    lane->input = NULL;
}

hb_status hb_send_backward(struct hb_executor *e, struct hb_lane *lane)
{
    struct message message = backward_message(lane, lane->input->grad);
    HB_TRY(send(e, lane->stage - 1, &message));
    drop_input(lane);
    return HB_OK;
}

hb_status hb_receive_backward(struct hb_executor *e, struct hb_lane *lane)
{
    struct hb_buffer *buffer;
    struct hb_tensor gradient;
    HB_TRY(hb_var_grad_buffer(&lane->tape, lane->output, &buffer, &gradient));
    struct message message = backward_message(lane, gradient);
    hb_status status = receive(e, lane->stage + 1, &message);
    if (status != HB_OK)
        hb_pool_drop(&lane->tape.pool, buffer);
    else
        status = hb_var_contribute(&lane->tape, lane->output, gradient.dtype, buffer);
    return status;
}

hb_status hb_hand_backward(struct hb_executor *e, struct hb_lane *from, struct hb_lane *to)
{
    struct message source = backward_message(from, from->input->grad),
                   target = backward_message(to, from->input->grad);
    for (int i = 1; i < source.parts; i++)
        HB_TRY(hb_copy(e->context, target.part[i], source.part[i]));
    HB_TRY(hb_var_contribute(&to->tape, to->output, from->input->grad.dtype,
                             hb_buffer_share(from->input->grad_buffer)));
    drop_input(from);
    return HB_OK;
}
