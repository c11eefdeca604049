#include <stdlib.h>
#include <string.h>

#include "core/float_environment.h"
#include "core/json.h"
#include "verify/case.h"

static const char *const forms[] = {[HB_PRODUCT_NT] = "NT", [HB_PRODUCT_NN] = "NN", [HB_PRODUCT_TN] = "TN"};
static const char *const epilogues[] = {[HB_STORE] = "STORE", [HB_CONTINUE] = "CONTINUE", [HB_ADD] = "ADD"};

static const char *const combines[] = {[HB_JOINT] = "joint", [HB_SUM] = "sum", [HB_GATED] = "gated"};

static hb_status choice(const json_t *args, const char *key, const char *const names[3], int *out)
{
    const char *text;
    HB_TRY(hb_json_string(args, "args", key, &text));
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return HB_OK;
        }
    return HB_FAIL(HB_EFORMAT, "args: %s must be %s, %s or %s", key, names[0], names[1], names[2]);
}

static hb_status set_scalar(const json_t *args, const struct hb_op_scalar *a, char *place)
{
    double real;
    int number;
    if (a->optional && !json_object_get(args, a->name))
        return HB_OK;
    switch (a->kind) {
    case HB_SCALAR_INT:
        return hb_json_int(args, "args", a->name, (int64_t *)(void *)place);
    case HB_SCALAR_BOOL:
        return hb_json_bool(args, "args", a->name, (bool *)place);
    case HB_SCALAR_FLOAT:
        HB_TRY(hb_json_real(args, "args", a->name, &real));
        *(float *)(void *)place = (float)real;
        if ((double)(float)real != real)
            return HB_FAIL(HB_EFORMAT, "args: %s is no fp32 number", a->name);
        return HB_OK;
    case HB_SCALAR_FORM:
        HB_TRY(choice(args, a->name, forms, &number));
        *(enum hb_product_form *)(void *)place = (enum hb_product_form)number;
        return HB_OK;
    case HB_SCALAR_COMBINE:
        HB_TRY(choice(args, a->name, combines, &number));
        *(enum hb_attention_combine *)(void *)place = (enum hb_attention_combine)number;
        return HB_OK;
    default:
        HB_TRY(choice(args, a->name, epilogues, &number));
        *(enum hb_product_epilogue *)(void *)place = (enum hb_product_epilogue)number;
        return HB_OK;
    }
}

static size_t bytes_of(const struct hb_case_tensor *t)
{
    return (size_t)t->count * hb_dtype_size(t->dtype);
}

/* A tensor on the context with its first content. */
static hb_status make(const struct hb_case_tensor *t, struct hb_context *context, struct hb_tensor *out)
{
    size_t bytes = bytes_of(t);
    void *host = malloc(bytes + 1);
    if (!host)
        return HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", bytes);
    if (t->given)
        hb_safetensors_copy(&t->input, host);
    else
        memset(host, 0xff, bytes); /* NaN: an element that nobody writes shows */
    *out = (struct hb_tensor){.home = context, .dtype = t->dtype, .rank = t->rank};
    memcpy(out->shape, t->shape, sizeof t->shape);
    hb_status status = hb_alloc(context, HB_MEMORY_ACTIVATIONS, bytes, &out->data);
    if (status == HB_OK)
        status = hb_copy_in(context, *out, host);
    free(host);
    return status;
}

/* Copies a tensor back: kept if it is an output, compared if it was only to be read. */
static hb_status take(const struct hb_case_tensor *t, struct hb_context *context, struct hb_tensor tensor,
                      void **out)
{
    void *host = malloc(bytes_of(t) + 1);
    if (!host)
        return HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", bytes_of(t));
    hb_status status = hb_copy_out(context, host, tensor);
    if (status == HB_OK && !t->expected && t->count && memcmp(host, t->input.data, bytes_of(t)) != 0)
        status =
            HB_FAIL(HB_EINTERNAL, "the backend wrote into %s, which the op only reads", t->argument->name);
    if (status == HB_OK && t->expected) {
        *out = host;
        return HB_OK;
    }
    free(host);
    return status;
}

static hb_status call(const struct hb_case *c, struct hb_context *context, const struct hb_op_call *op,
                      char *args, struct hb_tensor tensors[HB_CASE_TENSORS], struct hb_case_results *out)
{
    for (int i = 0; i < hb_op_scalar_count; i++)
        if (strcmp(hb_op_scalars[i].op, c->op->name) == 0)
            HB_TRY(set_scalar(c->args, &hb_op_scalars[i], args + hb_op_scalars[i].offset));
    for (int i = 0; i < c->count; i++) {
        HB_TRY(make(&c->tensors[i], context, &tensors[i]));
        memcpy(args + c->tensors[i].argument->offset, &tensors[i], sizeof tensors[i]);
    }
    HB_TRY(op->call(context, args));
    HB_TRY(hb_sync(context));
    if (hb_float_environment_check(op->op) != HB_OK)
        return HB_FAIL(HB_EINTERNAL, "the backend changed the floating-point environment");
    for (int i = 0; i < c->count; i++)
        HB_TRY(take(&c->tensors[i], context, tensors[i], &out->data[i]));
    return HB_OK;
}

hb_status hb_case_run(const struct hb_case *c, struct hb_context *context, struct hb_case_results *out)
{
    struct hb_tensor tensors[HB_CASE_TENSORS] = {0};
    *out = (struct hb_case_results){.count = c->count};
    const struct hb_op_call *op = hb_op_call_find(c->op->name);
    char *args = calloc(1, op->size);
    hb_status status = args ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", op->size);
    if (status == HB_OK)
        status = call(c, context, op, args, tensors, out);
    for (int i = 0; i < c->count; i++)
        hb_free(context, tensors[i].data);
    free(args);
    if (status != HB_OK)
        hb_case_results_release(out);
    return status;
}

void hb_case_results_release(struct hb_case_results *results)
{
    for (int i = 0; i < results->count; i++)
        free(results->data[i]);
    *results = (struct hb_case_results){0};
}
