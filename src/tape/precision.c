#include "tape/precision.h"

#include <string.h>

static const char *const storage_names[] = {"fp32", "bf16", "fp16", "class"};

static const struct {
    const char *name;
    struct hb_precision precision;
} presets[] = {
    {"fp32", {HB_STORED_FP32, HB_STORED_FP32, HB_STORED_FP32, HB_STORED_FP32, HB_STORED_AS_CLASS, 0, 0, 0}},
    {"bf16", {HB_STORED_BF16, HB_STORED_BF16, HB_STORED_BF16, HB_STORED_BF16, HB_STORED_AS_CLASS, 0, 0, 0}},
    {"fp16", {HB_STORED_FP16, HB_STORED_FP16, HB_STORED_FP16, HB_STORED_FP16, HB_STORED_AS_CLASS, 0, 0, 0}},
    {"mixed", {HB_STORED_FP16, HB_STORED_FP16, HB_STORED_BF16, HB_STORED_BF16, HB_STORED_AS_CLASS, 0, 0, 0}},
};

hb_status hb_precision_preset(const char *name, struct hb_precision *out)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(name, presets[i].name) == 0) {
            *out = presets[i].precision;
            return HB_OK;
        }
    return HB_FAIL(HB_EARGUMENT, "must be fp32, bf16, fp16, mixed or a map, got \"%s\"", name);
}

static const char *const fields[HB_PRECISION_FIELDS] = {"weights",   "activations",   "residual",
                                                        "gradients", "communication", "param_grad",
                                                        "masters",   "rounding"};
enum { STORAGES = 6, COMMUNICATION = 4, PARAM_GRAD = 5, MASTERS = 6 };

static enum hb_storage *storage_of(struct hb_precision *p, int field)
{
    enum hb_storage *const all[STORAGES] = {&p->weights,   &p->activations,   &p->residual,
                                            &p->gradients, &p->communication, &p->param_grad};
    return all[field];
}

const char *hb_precision_field(int i)
{
    return fields[i];
}

const char *hb_precision_value(const struct hb_precision *precision, int i)
{
    struct hb_precision copy = *precision;
    if (i < STORAGES)
        return storage_names[*storage_of(&copy, i)];
    if (i == MASTERS)
        return copy.no_masters ? "false" : "true";
    return copy.stochastic ? "stochastic" : "nearest";
}

/* 0 or 1, as `value` is one of the two words. */
static hb_status one_of(const char *field, const char *value, const char *off, const char *on, bool *out)
{
    *out = strcmp(value, on) == 0;
    if (!*out && strcmp(value, off) != 0)
        return HB_FAIL(HB_EARGUMENT, "%s must be %s or %s, got \"%s\"", field, on, off, value);
    return HB_OK;
}

hb_status hb_precision_set(struct hb_precision *precision, const char *field, const char *value)
{
    int f = 0;
    while (f < HB_PRECISION_FIELDS && strcmp(fields[f], field) != 0)
        f++;
    if (f == HB_PRECISION_FIELDS)
        return HB_FAIL(
            HB_EARGUMENT,
            "\"%s\" is no field of precision; there are preset, weights, activations, residual, gradients, "
            "communication, param_grad, masters, rounding",
            field);
    if (f == MASTERS) {
        HB_TRY(one_of(field, value, "true", "false", &precision->no_masters));
        return HB_OK;
    }
    if (f > MASTERS)
        return one_of(field, value, "nearest", "stochastic", &precision->stochastic);
    int count = f == COMMUNICATION ? 4 : f == PARAM_GRAD ? 2 : 3;
    for (int s = 0; s < count; s++)
        if (strcmp(value, storage_names[s]) == 0) {
            *storage_of(precision, f) = (enum hb_storage)s;
            return HB_OK;
        }
    return HB_FAIL(HB_EARGUMENT, "%s must be %s, got \"%s\"", field,
                   count == 4   ? "fp32, bf16, fp16 or class"
                   : count == 3 ? "fp32, bf16 or fp16"
                                : "fp32 or bf16",
                   value);
}

hb_status hb_precision_check(const struct hb_precision *p)
{
    if (p->no_masters && p->weights == HB_STORED_FP32)
        return HB_FAIL(HB_EARGUMENT,
                       "masters false needs weights in bf16 or fp16: fp32 weights are their own masters");
    if (p->stochastic && !p->no_masters)
        return HB_FAIL(HB_EARGUMENT,
                       "rounding stochastic is for weights without masters; set masters to false");
    return HB_OK;
}

bool hb_precision_is_fp32(const struct hb_precision *p)
{
    return (hb_precision_storage(p) & ~HB_STORAGE(HB_F32)) == 0;
}

static const enum hb_dtype dtypes[] = {HB_F32, HB_BF16, HB_F16, HB_F32};

uint32_t hb_precision_storage(const struct hb_precision *p)
{
    struct hb_precision copy = *p;
    uint32_t all = HB_STORAGE(HB_F32);
    for (int f = 0; f < STORAGES; f++)
        all |= HB_STORAGE(dtypes[*storage_of(&copy, f)]);
    return all;
}

static enum hb_dtype on(const struct hb_context *context, enum hb_storage storage)
{
    enum hb_dtype real = hb_real_dtype(context);
    return real == HB_F64 ? real : dtypes[storage];
}

static bool communicates(const struct hb_precision *p, enum hb_class class)
{
    return class >= HB_CLASS_DISPATCHED && p->communication != HB_STORED_AS_CLASS;
}

enum hb_dtype hb_class_dtype(const struct hb_context *context, const struct hb_precision *p,
                             enum hb_class class)
{
    if (!p)
        return hb_real_dtype(context);
    if (communicates(p, class))
        return on(context, p->communication);
    switch (class) {
    case HB_CLASS_WEIGHT:
        return on(context, p->weights);
    case HB_CLASS_ACTIVATION:
    case HB_CLASS_DISPATCHED:
        return on(context, p->activations);
    default:
        return on(context, p->residual);
    }
}

enum hb_dtype hb_class_grad_dtype(const struct hb_context *context, const struct hb_precision *p,
                                  enum hb_class class)
{
    if (!p)
        return hb_real_dtype(context);
    return on(context, communicates(p, class) ? p->communication : p->gradients);
}

enum hb_dtype hb_param_grad_dtype(const struct hb_context *context, const struct hb_precision *p)
{
    return p ? on(context, p->param_grad) : hb_real_dtype(context);
}
