#include "tape/tape.h"

#include <stdlib.h>
#include <string.h>

#include "tape/recompute.h"

void hb_tape_init(struct hb_tape *tape, struct hb_context *context)
{
    *tape = (struct hb_tape){.context = context, .place = {"", -1}, .head_elements = HB_HEAD_ELEMENTS};
    hb_pool_init(&tape->pool, context, HB_MEMORY_ACTIVATIONS);
}

static void drop_grad(struct hb_tape *tape, struct hb_var *var)
{
    hb_pool_drop(&tape->pool, var->grad_buffer);
    var->grad_buffer = NULL;
}

struct hb_var *hb_var_share(struct hb_var *var)
{
    var->references++;
    return var;
}

void hb_var_drop(struct hb_tape *tape, struct hb_var *var)
{
    if (!var || --var->references > 0)
        return;
    drop_grad(tape, var);
    hb_pool_drop(&tape->pool, var->buffer);
    free(var);
    tape->live_vars--;
}

/* Lets go of everything that the entry kept. */
static void finish(struct hb_tape *tape, struct hb_entry *entry)
{
    for (int i = 0; i < entry->saved_count; i++)
        hb_pool_drop(&tape->pool, entry->saved[i]);
    for (int i = 0; i < entry->in_count; i++)
        hb_var_drop(tape, entry->in[i]);
    for (int i = 0; i < entry->out_count; i++)
        hb_var_drop(tape, entry->out[i]);
    hb_segment_destroy(tape, entry->segment);
    entry->segment = NULL;
    free(entry->arrivals);
    entry->arrivals = NULL;
    entry->saved_count = entry->in_count = entry->out_count = 0;
    entry->input_done = entry->weight_done = true;
}

void hb_tape_drop_entries(struct hb_tape *tape)
{
    for (int64_t i = 0; i < tape->entry_count; i++)
        finish(tape, &tape->entries[i]);
    tape->entry_count = 0;
}

void hb_tape_begin(struct hb_tape *tape, struct hb_gradients *gradients, int64_t microbatch)
{
    hb_tape_drop_entries(tape);
    tape->gradients = gradients;
    tape->microbatch = microbatch;
}

void hb_tape_release(struct hb_tape *tape)
{
    hb_tape_begin(tape, NULL, 0);
    free(tape->entries);
    hb_pool_release(&tape->pool);
    *tape = (struct hb_tape){0};
}

bool hb_tape_recording(const struct hb_tape *tape)
{
    return tape->gradients != NULL;
}

static void look_around(const struct hb_tape *tape)
{
    if (tape->between)
        tape->between(tape->between_whom);
}

static hb_status run_weight(struct hb_tape *tape, struct hb_entry *entry)
{
    if (entry->weight_done)
        return HB_OK;
    if (entry->kind->backward_weight) {
        hb_trace_at(tape->context, entry->place, "weight gradient");
        hb_status status = entry->kind->backward_weight(tape, entry);
        if (status != HB_OK)
            return hb_fail_in(status, "%s (weights)", entry->kind->name);
        look_around(tape);
    }
    finish(tape, entry);
    return HB_OK;
}

/* Before an entry runs, all contributions to its outputs have come. */
static hb_status watch(struct hb_tape *tape, const struct hb_entry *entry)
{
    for (int i = 0; i < entry->out_count && tape->extremes.data; i++) {
        const struct hb_var *var = entry->out[i];
        if (var->watched && var->grad_buffer)
            HB_TRY(hb_finite(tape->context,
                             &(struct hb_finite_args){.x = var->grad, .extremes = tape->extremes}));
    }
    return HB_OK;
}

hb_status hb_tape_backward_input(struct hb_tape *tape, int64_t begin, int64_t end, bool weights)
{
    tape->with_weights = weights;
    for (int64_t i = end - 1; i >= begin; i--) {
        struct hb_entry *entry = &tape->entries[i];
        if (!entry->input_done) {
            hb_trace_at(tape->context, entry->place, "input gradient");
            HB_TRY(watch(tape, entry));
            hb_status status = entry->kind->backward_input(tape, entry);
            if (status != HB_OK)
                return hb_fail_in(status, "%s (inputs)", entry->kind->name);
            look_around(tape);
            entry->input_done = true;
        }
        /* An entry whose value a postponed weight gradient may ask for again stays until then. */
        if (weights || (!entry->kind->backward_weight && !(tape->forgetful && entry->kind->again)))
            HB_TRY(run_weight(tape, entry));
    }
    return HB_OK;
}

hb_status hb_tape_backward_weight(struct hb_tape *tape, int64_t begin, int64_t end)
{
    for (int64_t i = end - 1; i >= begin; i--)
        HB_TRY(run_weight(tape, &tape->entries[i]));
    return HB_OK;
}

static struct hb_tensor tensor_of(const struct hb_tape *tape, enum hb_dtype dtype, int rank,
                                  const int64_t *shape, void *data)
{
    struct hb_tensor t = {
        .data = data, .home = tape->context, .dtype = dtype, .rank = rank, .shape = {1, 1, 1, 1, 1, 1}};
    for (int d = 0; d < rank; d++)
        t.shape[d] = shape[d];
    return t;
}

hb_status hb_tape_scratch(struct hb_tape *tape, enum hb_dtype dtype, int rank, const int64_t *shape,
                          struct hb_buffer **buffer, struct hb_tensor *out)
{
    struct hb_tensor t = tensor_of(tape, dtype, rank, shape, NULL);
    HB_TRY(hb_pool_take(&tape->pool, hb_tensor_bytes(&t), buffer));
    t.data = (*buffer)->data;
    *out = t;
    return HB_OK;
}

hb_status hb_tape_round(struct hb_tape *tape, enum hb_dtype dtype, struct hb_buffer **buffer,
                        struct hb_tensor *t)
{
    if (t->dtype == dtype)
        return HB_OK;
    struct hb_buffer *rounded;
    struct hb_tensor out;
    HB_TRY(hb_tape_scratch(tape, dtype, t->rank, t->shape, &rounded, &out));
    hb_status status = hb_cast(tape->context, &(struct hb_cast_args){.x = *t, .out = out});
    if (status != HB_OK) {
        hb_pool_drop(&tape->pool, rounded);
        return status;
    }
    hb_pool_drop(&tape->pool, *buffer);
    *buffer = rounded;
    *t = out;
    return HB_OK;
}

hb_status hb_var_create(struct hb_tape *tape, enum hb_class class, int rank, const int64_t *shape,
                        struct hb_var **out)
{
    enum hb_dtype dtype = hb_class_dtype(tape->context, tape->precision, class);
    struct hb_var *var = calloc(1, sizeof *var);
    if (!var)
        return HB_FAIL(HB_EMEMORY, "out of memory for a variable");
    hb_status status = hb_tape_scratch(tape, dtype, rank, shape, &var->buffer, &var->value);
    if (status != HB_OK) {
        free(var);
        return status;
    }
    var->references = 1;
    var->grad_dtype = hb_class_grad_dtype(tape->context, tape->precision, class);
    tape->live_vars++;
    *out = var;
    return HB_OK;
}

hb_status hb_tape_record(struct hb_tape *tape, const struct hb_entry_kind *kind, int in_count,
                         struct hb_var *const *in, int out_count, struct hb_var *const *out,
                         struct hb_entry **entry)
{
    *entry = NULL;
    look_around(tape); /* an op's forward has run */
    if (!hb_tape_recording(tape))
        return HB_OK;
    if (tape->entry_count == tape->entry_capacity) {
        int64_t capacity = tape->entry_capacity ? 2 * tape->entry_capacity : 64;
        struct hb_entry *grown = realloc(tape->entries, (size_t)capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for the tape");
        tape->entries = grown;
        tape->entry_capacity = capacity;
    }
    struct hb_entry *e = &tape->entries[tape->entry_count++];
    *e = (struct hb_entry){.kind = kind, .place = tape->place, .in_count = in_count, .out_count = out_count};
    for (int i = 0; i < in_count; i++) {
        e->in[i] = hb_var_share(in[i]);
        in[i]->consumers++;
    }
    for (int i = 0; i < out_count; i++)
        e->out[i] = hb_var_share(out[i]);
    *entry = e;
    return HB_OK;
}

void hb_entry_save(struct hb_entry *entry, struct hb_buffer *buffer)
{
    entry->saved[entry->saved_count++] = buffer;
}

enum hb_dtype hb_var_contribution_dtype(const struct hb_tape *tape, const struct hb_var *var)
{
    return var->consumers > 1 ? hb_real_dtype(tape->context) : var->grad_dtype;
}

hb_status hb_var_grad_buffer(struct hb_tape *tape, const struct hb_var *var, struct hb_buffer **buffer,
                             struct hb_tensor *grad)
{
    return hb_tape_scratch(tape, hb_var_contribution_dtype(tape, var), var->value.rank, var->value.shape,
                           buffer, grad);
}

/* The sum, rounded once, goes into a buffer that no other variable shares; either of the two may be. */
static hb_status add_gradient(struct hb_tape *tape, struct hb_var *var, struct hb_tensor more,
                              struct hb_buffer *buffer)
{
    struct hb_tensor sum = more;
    struct hb_buffer *into;
    size_t size = hb_dtype_size(var->grad_dtype);
    sum.dtype = var->grad_dtype;
    if (buffer->references == 1 && hb_dtype_size(more.dtype) == size)
        into = hb_buffer_share(buffer);
    else if (var->grad_buffer->references == 1 && hb_dtype_size(var->grad.dtype) == size)
        into = hb_buffer_share(var->grad_buffer);
    else
        HB_TRY(hb_pool_take(&tape->pool, hb_tensor_bytes(&sum), &into));
    sum.data = into->data;
    hb_status status = hb_add(tape->context, &(struct hb_add_args){.a = more, .b = var->grad, .out = sum});
    if (status != HB_OK) {
        hb_pool_drop(&tape->pool, into);
        return status;
    }
    hb_pool_drop(&tape->pool, var->grad_buffer);
    var->grad_buffer = into;
    var->grad = sum;
    return HB_OK;
}

hb_status hb_var_contribute(struct hb_tape *tape, struct hb_var *var, enum hb_dtype dtype,
                            struct hb_buffer *buffer)
{
    hb_status status = HB_OK;
    struct hb_tensor more = var->value;
    more.dtype = dtype;
    more.data = buffer->data;
    if (++var->contributions > 2) {
        status = HB_FAIL(HB_EINTERNAL,
                         "a value has more than two consumers; make them one entry of the tape");
    } else if (!var->grad_buffer) {
        if (var->consumers <= 1)
            status = hb_tape_round(tape, var->grad_dtype, &buffer, &more);
        if (status == HB_OK) {
            var->grad = more;
            var->grad_buffer = buffer;
            return HB_OK;
        }
    } else {
        status = add_gradient(tape, var, more, buffer);
    }
    hb_pool_drop(&tape->pool, buffer);
    return status;
}

hb_status hb_entry_grad_buffers(struct hb_tape *tape, const struct hb_entry *entry, struct hb_buffer **buffer,
                                struct hb_tensor *grad)
{
    for (int i = 0; i < entry->in_count; i++) {
        hb_status status = hb_var_grad_buffer(tape, entry->in[i], &buffer[i], &grad[i]);
        if (status != HB_OK) {
            while (i-- > 0)
                hb_pool_drop(&tape->pool, buffer[i]);
            return status;
        }
    }
    return HB_OK;
}

hb_status hb_entry_contribute(struct hb_tape *tape, const struct hb_entry *entry,
                              struct hb_buffer *const *buffer, hb_status status)
{
    for (int i = 0; i < entry->in_count; i++) {
        if (status == HB_OK)
            status = hb_var_contribute(tape, entry->in[i], hb_var_contribution_dtype(tape, entry->in[i]),
                                       buffer[i]);
        else
            hb_pool_drop(&tape->pool, buffer[i]);
    }
    return status;
}
