#include "ops/nonfinite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double value_at(enum hb_dtype dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case HB_F64: return ((const double *)data)[i];
    case HB_F32: return (double)((const float *)data)[i];
    case HB_BF16: return (double)hb_f32_of_bf16(((const uint16_t *)data)[i]);
    case HB_F16: return (double)hb_f32_of_f16(((const uint16_t *)data)[i]);
    default: return 0;
    }
}

/* A row of attention without keys has the logarithm of 0 there. */
static bool may_be(const char *argument, double value)
{
    return isfinite(value) || (strcmp(argument, "lse") == 0 && value < 0);
}

/* Embedding, decoders, head. */
static int64_t block_number(const struct hb_trace_place *place)
{
    if (place->layer >= 0)
        return place->layer + 1;
    return strcmp(place->block, "embedding") == 0 ? 0 : INT32_MAX;
}

static void make_key(const struct hb_op_trace *trace, int64_t key[HB_NONFINITE_KEY])
{
    bool forward = strcmp(trace->pass, "forward") == 0;
    int64_t block = block_number(&trace->place);
    key[0] = trace->microbatch < 0 ? INT64_MAX : trace->microbatch;
    key[1] = !forward;
    key[2] = forward ? block : -block;
    key[3] = strcmp(trace->pass, "weight gradient") == 0;
    key[4] = trace->turn;
}

bool hb_nonfinite_before(const int64_t *key, const struct hb_nonfinite *found)
{
    int i = 0;
    while (found->found && i < HB_NONFINITE_KEY && key[i] == found->key[i])
        i++;
    return !found->found || (i < HB_NONFINITE_KEY && key[i] < found->key[i]);
}

/* What memory with a name is called; of a stack of tensors the one that has the element. */
static void name_it(struct hb_context *context, const struct hb_tensor *t, struct hb_nonfinite *f)
{
    struct hb_tensor part = *t;
    if (hb_trace_is_part(context->trace, t->data)) {
        int64_t each = hb_tensor_count(t) / t->shape[0];
        part = hb_tensor_rows(*t, f->element / each, 1);
        memmove(part.shape, part.shape + 1, (size_t)--part.rank * sizeof *part.shape);
        f->element = f->element % each;
    }
    hb_trace_name_of(context->trace, part.data, f->name, sizeof f->name);
    hb_tensor_describe(&part, f->tensor, sizeof f->tensor);
}

hb_status hb_nonfinite_look(struct hb_context *context, const char *op, const void *args, enum hb_op_use use)
{
    struct hb_nonfinite *f = context->trace->seek;
    const struct hb_op_entry *entry = hb_op_find(op);
    int64_t key[HB_NONFINITE_KEY];
    bool here = false;
    context->trace->turn += use == HB_READS;
    make_key(context->trace, key);
    if (!hb_nonfinite_before(key, f))
        return HB_OK;
    for (int i = 0; i < entry->tensor_count && !here; i++) {
        const struct hb_op_tensor *which = &entry->tensors[i];
        const struct hb_tensor *t = hb_op_tensor_of(args, which);
        char *data;
        if (!t->data || !(hb_op_use_of(args, which) & use))
            continue;
        HB_TRY(hb_trace_fetch(context, args, which, &data));
        for (int64_t j = 0; j < hb_tensor_count(t) && !here; j++) {
            double value = value_at(t->dtype, data, j);
            if (may_be(which->name, value))
                continue;
            *f = (struct hb_nonfinite){.found = true,
                                       .microbatch = context->trace->microbatch,
                                       .place = context->trace->place,
                                       .pass = context->trace->pass,
                                       .op = op,
                                       .argument = which->name,
                                       .read = use == HB_READS,
                                       .element = j,
                                       .value = value};
            memcpy(f->key, key, sizeof key);
            name_it(context, t, f);
            here = true;
        }
        free(data);
    }
    return HB_OK;
}

void hb_nonfinite_describe(const struct hb_nonfinite *f, char *text, size_t size)
{
    char layer[24] = "", microbatch[40] = "";
    if (!f->found) {
        snprintf(text, size, "every tensor of every op was finite");
        return;
    }
    if (f->place.layer >= 0)
        snprintf(layer, sizeof layer, " %lld", (long long)f->place.layer);
    if (f->microbatch >= 0)
        snprintf(microbatch, sizeof microbatch, ", microbatch %lld", (long long)f->microbatch);
    snprintf(text, size, "%s%s%s (%s), which %s %s in %s%s, %s%s; its element %lld is %g", f->name,
             f->name[0] ? ", " : "", f->argument, f->tensor, f->op, f->read ? "reads" : "writes",
             f->place.block, layer, f->pass, microbatch, (long long)f->element, f->value);
}
