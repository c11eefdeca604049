#include <stdlib.h>
#include <string.h>

#include "core/float_environment.h"
#include "core/json.h"
#include "verify/case.h"

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

static hb_status set_number(const json_t *args, const struct hb_op_number *a, char *place)
{
    double real;
    int number;
    if (a->optional && !json_object_get(args, a->name))
        return HB_OK;
    switch (a->kind) {
    case HB_NUMBER_INT:
        return hb_json_int(args, "args", a->name, (int64_t *)(void *)place);
    case HB_NUMBER_BOOL:
        return hb_json_bool(args, "args", a->name, (bool *)place);
    case HB_NUMBER_FLOAT:
        HB_TRY(hb_json_real(args, "args", a->name, &real));
        *(float *)(void *)place = (float)real;
        if ((double)(float)real != real)
            return HB_FAIL(HB_EFORMAT, "args: %s is no fp32 number", a->name);
        return HB_OK;
    case HB_NUMBER_FORM:
        HB_TRY(choice(args, a->name, hb_op_form_names, &number));
        *(enum hb_product_form *)(void *)place = (enum hb_product_form)number;
        return HB_OK;
    case HB_NUMBER_COMBINE:
        HB_TRY(choice(args, a->name, hb_op_combine_names, &number));
        *(enum hb_attention_combine *)(void *)place = (enum hb_attention_combine)number;
        return HB_OK;
    default:
        HB_TRY(choice(args, a->name, hb_op_epilogue_names, &number));
        *(enum hb_product_epilogue *)(void *)place = (enum hb_product_epilogue)number;
        return HB_OK;
    }
}

static size_t bytes_of(const struct hb_case_tensor *t)
{
    return (size_t)t->count * hb_dtype_size(t->dtype);
}

/* Bytes behind every tensor, which nobody may write. As floats they are -3.4e38,
 * so that an element that is read from there shows too. */
enum { GUARD = 64 };
static const unsigned char guard_bytes[4] = {0xff, 0xff, 0x7f, 0xff};

static void fill_guard(unsigned char *guard)
{
    for (int i = 0; i < GUARD; i++)
        guard[i] = guard_bytes[i % 4];
}

static bool guard_is_whole(const unsigned char *guard)
{
    for (int i = 0; i < GUARD; i++)
        if (guard[i] != guard_bytes[i % 4])
            return false;
    return true;
}

/* The tensor with its guard, as bytes. */
static struct hb_tensor with_guard(const struct hb_case_tensor *t, struct hb_context *context, void *data)
{
    return hb_tensor_1d(context, data, HB_U8, (int64_t)bytes_of(t) + GUARD);
}

/* A tensor on the context with its first content. */
static hb_status make(const struct hb_case_tensor *t, struct hb_context *context, struct hb_tensor *out)
{
    size_t bytes = bytes_of(t);
    char *host = malloc(bytes + GUARD);
    if (!host)
        return HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", bytes);
    if (t->given)
        hb_safetensors_copy(&t->input, host);
    else
        memset(host, 0xff, bytes); /* NaN: an element that nobody writes shows */
    fill_guard((unsigned char *)host + bytes);
    *out = (struct hb_tensor){.home = context, .dtype = t->dtype, .rank = t->rank};
    memcpy(out->shape, t->shape, sizeof t->shape);
    hb_status status = hb_alloc(context, HB_MEMORY_ACTIVATIONS, bytes + GUARD, &out->data);
    if (status == HB_OK)
        status = hb_copy_in(context, with_guard(t, context, out->data), host);
    free(host);
    return status;
}

/* Copies a tensor back: kept if it is an output, compared if it was only to be read. */
static hb_status take(const struct hb_case_tensor *t, struct hb_context *context, struct hb_tensor tensor,
                      void **out)
{
    unsigned char *host = malloc(bytes_of(t) + GUARD);
    if (!host)
        return HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", bytes_of(t));
    hb_status status = hb_copy_out(context, host, with_guard(t, context, tensor.data));
    if (status == HB_OK && !guard_is_whole(host + bytes_of(t)))
        status = HB_FAIL(HB_EINTERNAL, "the backend wrote behind the end of %s", t->argument->name);
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

static hb_status call(const struct hb_case *c, struct hb_context *context, char *args,
                      struct hb_tensor tensors[HB_CASE_TENSORS], struct hb_case_results *out)
{
    for (int i = 0; i < c->op->number_count; i++)
        HB_TRY(set_number(c->args, &c->op->numbers[i], args + c->op->numbers[i].offset));
    for (int i = 0; i < c->count; i++) {
        HB_TRY(make(&c->tensors[i], context, &tensors[i]));
        memcpy(args + c->tensors[i].argument->offset, &tensors[i], sizeof tensors[i]);
    }
    HB_TRY(c->op->call(context, args));
    HB_TRY(hb_sync(context));
    if (hb_float_environment_check(c->op->name) != HB_OK)
        return HB_FAIL(HB_EINTERNAL, "the backend changed the floating-point environment");
    for (int i = 0; i < c->count; i++)
        HB_TRY(take(&c->tensors[i], context, tensors[i], &out->data[i]));
    return HB_OK;
}

hb_status hb_case_run(const struct hb_case *c, struct hb_context *context, struct hb_case_results *out)
{
    struct hb_tensor tensors[HB_CASE_TENSORS] = {0};
    *out = (struct hb_case_results){.count = c->count};
    char *args = calloc(1, c->op->size);
    hb_status status = args ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", c->op->size);
    if (status == HB_OK)
        status = call(c, context, args, tensors, out);
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
