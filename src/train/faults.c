#include "train/faults.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/dtype.h"

static const char *const kind_names[HB_FAULT_KINDS] = {"overflow", "nan", "spike", "weight"};

static hb_status read_kind(const struct hb_yaml_node *node, enum hb_fault_kind *kind)
{
    for (int i = 0; i < HB_FAULT_KINDS; i++)
        if (node->kind == HB_YAML_SCALAR && strcmp(node->text, kind_names[i]) == 0) {
            *kind = (enum hb_fault_kind)i;
            return HB_OK;
        }
    return hb_yaml_fail(node, "must be overflow, nan, spike or weight");
}

static hb_status read_factor(const struct hb_yaml_node *node, double *factor)
{
    HB_TRY(hb_yaml_float(node, factor));
    return *factor > 0 && *factor <= 0x1p127
               ? HB_OK
               : hb_yaml_fail(node, "must be above 0 and an fp32 number, got %s", node->text);
}

static hb_status read_fault(const struct hb_yaml_node *node, int64_t steps, struct hb_fault *fault)
{
    *fault = (struct hb_fault){.factor = 0x1p40};
    const struct hb_yaml_node *step = hb_yaml_child(node, "step"), *kind = hb_yaml_child(node, "kind");
    if (node->kind != HB_YAML_MAP || !step || !kind)
        return hb_yaml_fail(node, "must be a map with step and kind, as in {step: 7, kind: nan}");
    HB_TRY(hb_yaml_int(step, &fault->step));
    if (fault->step < 1 || fault->step > steps)
        return hb_yaml_fail(step, "must be a step of the run, from 1 to training.steps (%lld), got %s",
                            (long long)steps, step->text);
    HB_TRY(read_kind(kind, &fault->kind));
    for (size_t i = 0; i < node->count; i++) {
        const struct hb_yaml_node *item = node->items[i];
        if (item == step || item == kind)
            continue;
        if (strcmp(item->key, "factor") == 0 && fault->kind == HB_FAULT_OVERFLOW)
            HB_TRY(read_factor(item, &fault->factor));
        else if (strcmp(item->key, "tensor") == 0 && fault->kind == HB_FAULT_WEIGHT)
            HB_TRY(hb_yaml_string(item, &fault->tensor));
        else
            return hb_yaml_fail(
                item, "unknown key for a fault of kind %s; overflow takes factor, weight takes tensor",
                kind_names[fault->kind]);
    }
    if (fault->kind == HB_FAULT_WEIGHT && !fault->tensor)
        return hb_yaml_fail(node, "a fault of kind weight needs the name of a tensor");
    return HB_OK;
}

hb_status hb_faults_read(const struct hb_yaml_node *node, int64_t steps, struct hb_fault *list,
                         int64_t *count)
{
    *count = 0;
    if (!node)
        return HB_OK;
    if (node->kind != HB_YAML_SEQUENCE || node->count > HB_FAULTS_MAX)
        return hb_yaml_fail(node, "must be a list of at most %d faults", HB_FAULTS_MAX);
    for (size_t i = 0; i < node->count; i++)
        HB_TRY(read_fault(node->items[i], steps, &list[(*count)++]));
    return HB_OK;
}

/* NaN in the tensor's type. */
static void nan_of(enum hb_dtype dtype, unsigned char bytes[8])
{
    float f = NAN;
    double d = (double)NAN;
    uint16_t half = dtype == HB_BF16 ? hb_bf16_of_f32(f) : hb_f16_of_f32(f);
    if (dtype == HB_F64)
        memcpy(bytes, &d, sizeof d);
    else if (dtype == HB_F32)
        memcpy(bytes, &f, sizeof f);
    else
        memcpy(bytes, &half, sizeof half);
}

/* Element `element` of the stack or tensor becomes NaN, if it is here; what it was goes to `was`. */
static hb_status poison(struct hb_context *context, const struct hb_param *param, int64_t element,
                        unsigned char was[8], struct hb_tensor *where)
{
    unsigned char bytes[8];
    struct hb_range here = param->level == 3 ? param->shard : (struct hb_range){0, hb_param_count(param)};
    int64_t at = element - param->first_group * hb_param_part_count(param);
    if (at < here.begin || at >= here.end)
        return HB_OK;
    struct hb_tensor all = param->level == 3 ? param->kept : param->value;
    all = hb_tensor_1d(context, all.data, all.dtype, here.end - here.begin);
    *where = hb_tensor_rows(all, at - here.begin, 1);
    HB_TRY(hb_copy_out(context, was, *where));
    nan_of(where->dtype, bytes);
    return hb_copy_in(context, *where, bytes);
}

/* The most over all ranks. */
static hb_status most(const struct hb_stepper *stepper, int64_t *value)
{
    return stepper->ranks ? hb_comm_max(stepper->ranks->mesh.world, value, 1) : HB_OK;
}

/* Which element of the parameter is the first of tensor `name`; a stack's own name, with * for the number, is
 * that of its first tensor. -1: the tensor is not here. */
static int64_t first_element(const struct hb_param *param, const char *name)
{
    char text[2 * HB_PARAM_NAME_MAX];
    if (strcmp(hb_param_whole_name(param, text, sizeof text), name) == 0)
        return 0;
    for (int64_t g = 0; g < param->groups; g++)
        if (strcmp(hb_param_logical_name(param, g, text, sizeof text), name) == 0)
            return (param->first_group + g) * hb_param_part_count(param);
    return -1;
}

static hb_status poison_weight(const struct hb_model *model, const char *name)
{
    unsigned char was[8];
    struct hb_tensor where;
    for (int64_t p = 0; p < model->param_count; p++) {
        int64_t element = first_element(model->params[p], name);
        if (element >= 0)
            HB_TRY(poison(model->context, model->params[p], element, was, &where));
    }
    return HB_OK;
}

hb_status hb_faults_check(const struct hb_faults *f, const struct hb_stepper *stepper)
{
    for (int64_t i = 0; i < f->count; i++) {
        const struct hb_fault *fault = &f->list[i];
        int64_t known = fault->kind != HB_FAULT_WEIGHT;
        for (int64_t p = 0; !known && p < stepper->model->param_count; p++)
            known = first_element(stepper->model->params[p], fault->tensor) >= 0;
        HB_TRY(most(stepper, &known));
        if (!known)
            return HB_FAIL(HB_EARGUMENT,
                           "faults: step %lld: the model has no tensor %s; names are those of "
                           "model.safetensors",
                           (long long)fault->step, fault->tensor);
    }
    return HB_OK;
}

/* The first number of the row of the step's first token, which the ranks with microbatch 0 know. */
static hb_status poison_input(struct hb_faults *f, const struct hb_batches *batches,
                              struct hb_stepper *stepper)
{
    const struct hb_model *model = stepper->model;
    int64_t id = batches->batch[0].tokens ? batches->batch[0].ids[0] : -1;
    HB_TRY(most(stepper, &id));
    f->poisoned = true;
    if (model->embedding)
        return poison(model->context, model->embedding, id * model->config.hidden_size, f->was, &f->where);
    if (model->head && model->config.tie_word_embeddings)
        return poison(model->context, model->head, id * model->config.hidden_size, f->was, &f->where);
    return HB_OK;
}

static void spoil_labels(struct hb_batches *batches, int64_t vocabulary)
{
    for (int64_t m = 0; m < batches->microbatches; m++) {
        int32_t *labels = batches->labels + m * batches->sequences * batches->tokens;
        for (int64_t i = 0; i < batches->batch[m].tokens; i++) /* none where another rank has them */
            if (labels[i] >= 0)
                labels[i] = (int32_t)((labels[i] + vocabulary / 2) % vocabulary);
    }
}

hb_status hb_faults_begin(struct hb_faults *f, int64_t step, struct hb_batches *batches,
                          struct hb_stepper *stepper)
{
    struct hb_model *model = stepper->model;
    for (int64_t i = 0; i < f->count; i++) {
        const struct hb_fault *fault = &f->list[i];
        if (fault->step != step)
            continue;
        switch (fault->kind) {
        case HB_FAULT_OVERFLOW: stepper->loss_gain = stepper->loss_gain * fault->factor; break;
        case HB_FAULT_SPIKE: spoil_labels(batches, model->config.vocab_size); break;
        case HB_FAULT_WEIGHT: HB_TRY(poison_weight(model, fault->tensor)); break;
        default:
            if (!f->poisoned)
                HB_TRY(poison_input(f, batches, stepper));
        }
    }
    return HB_OK;
}

hb_status hb_faults_end(struct hb_faults *f, struct hb_stepper *stepper)
{
    stepper->loss_gain = 1;
    bool here = f->where.data != NULL;
    hb_status status = here ? hb_copy_in(stepper->context, f->where, f->was) : HB_OK;
    f->where.data = NULL;
    f->poisoned = false;
    return status;
}
