#include "tape/recompute.h"

#include <stdlib.h>

/* --- forgetting --- */

void hb_var_made_by(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_var *var = entry->out[0];
    var->made_by[var->maker_count++] = entry - tape->entries;
}

void hb_var_forget(struct hb_tape *tape, struct hb_var *var)
{
    if (var && var->maker_count && tape->forgetful) {
        hb_pool_drop(&tape->pool, var->buffer);
        var->buffer = NULL;
        var->value.data = NULL;
    }
    hb_var_drop(tape, var);
}

hb_status hb_var_remember(struct hb_tape *tape, struct hb_var *var)
{
    if (var->value.data)
        return HB_OK;
    HB_TRY(hb_tape_scratch(tape, var->value.dtype, var->value.rank, var->value.shape, &var->buffer,
                           &var->value));
    for (int i = 0; i < var->maker_count; i++) {
        struct hb_entry *entry = &tape->entries[var->made_by[i]];
        hb_trace_at(tape->context, entry->place, "recompute");
        HB_TRY(entry->kind->again(tape, entry));
    }
    return HB_OK;
}

/* --- segments --- */

struct hb_segment {
    struct hb_piece piece;
    struct hb_routing routing;
    struct hb_entry *entries; /* of the second run */
    int64_t entry_count, entry_capacity;
};

/* Makes the segment's list the one that the tape records to and runs; and back. */
static void swap_entries(struct hb_tape *tape, struct hb_segment *segment)
{
    struct hb_entry *entries = tape->entries;
    int64_t count = tape->entry_count, capacity = tape->entry_capacity;
    tape->entries = segment->entries;
    tape->entry_count = segment->entry_count;
    tape->entry_capacity = segment->entry_capacity;
    segment->entries = entries;
    segment->entry_count = count;
    segment->entry_capacity = capacity;
}

void hb_segment_destroy(struct hb_tape *tape, struct hb_segment *segment)
{
    if (!segment)
        return;
    swap_entries(tape, segment);
    hb_tape_drop_entries(tape);
    swap_entries(tape, segment);
    for (int i = 0; i < HB_ROUTING_MAX; i++)
        hb_pool_drop(&tape->pool, segment->routing.buffer[i]);
    free(segment->entries);
    free(segment);
}

/* The same value with a gradient of its own. */
static hb_status alias(struct hb_tape *tape, const struct hb_var *var, struct hb_var **out)
{
    struct hb_var *copy = calloc(1, sizeof *copy);
    if (!copy)
        return HB_FAIL(HB_EMEMORY, "out of memory for a variable");
    copy->value = var->value;
    copy->buffer = var->buffer ? hb_buffer_share(var->buffer) : NULL;
    copy->grad_dtype = var->grad_dtype;
    copy->references = 1;
    tape->live_vars++;
    *out = copy;
    return HB_OK;
}

/* Inside the segment's list: forward once more, then backward. */
static hb_status run_again(struct hb_tape *tape, struct hb_segment *segment, struct hb_var *x,
                           const struct hb_var *y, bool weights)
{
    struct hb_var *made = NULL;
    tape->routing = &segment->routing;
    hb_status status = segment->piece.forward(&segment->piece, tape, x, &made);
    tape->routing = NULL;
    if (status != HB_OK)
        return status;
    made->grad = y->grad;
    made->grad_buffer = hb_buffer_share(y->grad_buffer);
    made->contributions = y->contributions;
    hb_var_drop(tape, made); /* its last op's entry holds it */
    return hb_tape_backward_input(tape, 0, tape->entry_count, weights);
}

static hb_status segment_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_segment *segment = entry->segment;
    struct hb_var *x;
    struct hb_trace_place place = tape->place;
    bool weights = tape->with_weights;
    HB_TRY(alias(tape, entry->in[0], &x));
    tape->place = entry->place;
    hb_trace_at(tape->context, entry->place, "recompute");
    swap_entries(tape, segment);
    hb_status status = run_again(tape, segment, x, entry->out[0], weights);
    swap_entries(tape, segment);
    tape->place = place;
    tape->with_weights = weights;
    if (status == HB_OK)
        status = hb_var_contribute(tape, entry->in[0], x->grad.dtype, hb_buffer_share(x->grad_buffer));
    hb_var_drop(tape, x);
    return status;
}

static hb_status segment_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    swap_entries(tape, entry->segment);
    hb_status status = hb_tape_backward_weight(tape, 0, tape->entry_count);
    swap_entries(tape, entry->segment);
    return status;
}

static const struct hb_entry_kind segment_kind = {"recompute", segment_input, segment_weight, NULL};

hb_status hb_tape_segment(struct hb_tape *tape, const struct hb_piece *piece, struct hb_var *x,
                          struct hb_var **out)
{
    if (!hb_tape_recording(tape))
        return piece->forward(piece, tape, x, out);
    struct hb_segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return HB_FAIL(HB_EMEMORY, "out of memory for a part of the tape");
    segment->piece = *piece;
    struct hb_gradients *gradients = tape->gradients;
    struct hb_var *y = NULL;
    struct hb_entry *entry;
    tape->gradients = NULL;
    tape->routing = &segment->routing;
    hb_status status = piece->forward(piece, tape, x, &y);
    tape->gradients = gradients;
    tape->routing = NULL;
    segment->routing.kept = true;
    if (status == HB_OK)
        status = hb_tape_record(tape, &segment_kind, 1, &x, 1, &y, &entry);
    if (status != HB_OK) {
        hb_var_drop(tape, y);
        hb_segment_destroy(tape, segment);
        return status;
    }
    entry->segment = segment;
    *out = y;
    return HB_OK;
}
