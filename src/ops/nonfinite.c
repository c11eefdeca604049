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

hb_status hb_nonfinite_look(struct hb_context *context, const char *op, const void *args, enum hb_op_use use)
{
    struct hb_nonfinite *f = context->trace->seek;
    const struct hb_op_entry *entry = hb_op_find(op);
    for (int i = 0; i < entry->tensor_count && !f->found; i++) {
        const struct hb_op_tensor *which = &entry->tensors[i];
        const struct hb_tensor *t = hb_op_tensor_of(args, which);
        char *data;
        if (!t->data || !(hb_op_use_of(args, which) & use))
            continue;
        HB_TRY(hb_trace_fetch(context, args, which, &data));
        for (int64_t j = 0; j < hb_tensor_count(t) && !f->found; j++) {
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
            hb_tensor_describe(t, f->tensor, sizeof f->tensor);
            hb_trace_name_of(context->trace, t->data, f->name, sizeof f->name);
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
