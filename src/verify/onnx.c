#include "verify/onnx.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "verify/compare.h"
#include "verify/onnx_test.h"

hb_status hb_onnx_host(struct hb_onnx_test *test, size_t bytes, void **out)
{
    *out = test->host_count < HB_ONNX_HOST ? calloc(1, bytes + 1) : NULL;
    if (!*out)
        return HB_FAIL(HB_EMEMORY, "out of memory for %zu bytes", bytes);
    test->host[test->host_count++] = *out;
    return HB_OK;
}

size_t hb_onnx_inputs(const struct hb_onnx_test *test)
{
    return json_array_size(test->inputs);
}

static hb_status find(const struct hb_onnx_test *test, const char *kind, const json_t *names, size_t i,
                      struct hb_safetensors_tensor *out)
{
    char full[96];
    const char *name = json_string_value(json_array_get(names, i));
    if (!name)
        return HB_FAIL(HB_EFORMAT, "%s %zu has no name", kind, i);
    snprintf(full, sizeof full, "%s.%s", kind, name);
    return hb_safetensors_find(test->file, full, out);
}

hb_status hb_onnx_input(struct hb_onnx_test *test, size_t i, struct hb_safetensors_tensor *shape,
                        float **values)
{
    void *memory;
    HB_TRY(find(test, "input", test->inputs, i, shape));
    HB_TRY(hb_onnx_host(test, (size_t)shape->count * sizeof(float), &memory));
    *values = memory;
    return hb_safetensors_copy_f32(shape, *values);
}

hb_status hb_onnx_input_i64(struct hb_onnx_test *test, size_t i, struct hb_safetensors_tensor *shape,
                            int64_t **values)
{
    void *memory;
    HB_TRY(find(test, "input", test->inputs, i, shape));
    if (shape->dtype != HB_I64)
        return HB_FAIL(HB_EFORMAT, "%s must be I64", shape->name);
    HB_TRY(hb_onnx_host(test, shape->bytes, &memory));
    *values = memory;
    hb_safetensors_copy(shape, memory);
    return HB_OK;
}

hb_status hb_onnx_uncovered(struct hb_onnx_test *test, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(test->verdict->text, sizeof test->verdict->text, format, args);
    va_end(args);
    test->verdict->result = HB_ONNX_UNCOVERED;
    return HB_OK;
}

static void convert(enum hb_dtype dtype, const void *values, void *to, int64_t count)
{
    const float *from = values;
    if (dtype == HB_F16)
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)to)[i] = hb_f16_of_f32(from[i]);
    else
        memcpy(to, values, (size_t)count * hb_dtype_size(dtype));
}

hb_status hb_onnx_tensor(struct hb_onnx_test *test, enum hb_dtype dtype, int rank, const int64_t *shape,
                         const void *values, struct hb_tensor *out)
{
    void *staging;
    if (test->tensor_count == HB_ONNX_TENSORS)
        return HB_FAIL(HB_EINTERNAL, "more than %d tensors", HB_ONNX_TENSORS);
    *out =
        (struct hb_tensor){.home = test->context, .dtype = dtype, .rank = rank, .shape = {1, 1, 1, 1, 1, 1}};
    memcpy(out->shape, shape, (size_t)rank * sizeof *shape);
    HB_TRY(hb_onnx_host(test, hb_tensor_bytes(out), &staging));
    if (values)
        convert(dtype, values, staging, hb_tensor_count(out));
    else
        memset(staging, 0xff, hb_tensor_bytes(out));
    HB_TRY(hb_alloc(test->context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(out), &out->data));
    test->tensors[test->tensor_count++] = *out;
    return hb_copy_in(test->context, *out, staging);
}

hb_status hb_onnx_values(struct hb_onnx_test *test, struct hb_tensor t, double **out)
{
    void *raw, *values;
    int64_t count = hb_tensor_count(&t);
    HB_TRY(hb_sync(test->context));
    HB_TRY(hb_onnx_host(test, hb_tensor_bytes(&t), &raw));
    HB_TRY(hb_onnx_host(test, (size_t)count * sizeof(double), &values));
    HB_TRY(hb_copy_out(test->context, raw, t));
    *out = values;
    for (int64_t i = 0; i < count; i++)
        (*out)[i] = hb_element_value(t.dtype, raw, i);
    return HB_OK;
}

double hb_onnx_largest(const float *values, int64_t count)
{
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        if (fabs((double)values[i]) > largest)
            largest = fabs((double)values[i]);
    return largest;
}

hb_status hb_onnx_check(struct hb_onnx_test *test, size_t i, const double *got, int64_t count,
                        struct hb_onnx_bound bound)
{
    struct hb_safetensors_tensor t;
    void *raw;
    HB_TRY(find(test, "output", test->outputs, i, &t));
    if (t.count != count)
        return HB_FAIL(HB_EFORMAT, "%s has %lld elements, computed %lld", t.name, (long long)t.count,
                       (long long)count);
    HB_TRY(hb_onnx_host(test, t.bytes, &raw));
    hb_safetensors_copy(&t, raw);
    /* Ours in fp32, theirs in the type of the tensors; both end stored in it. */
    double s = t.dtype == HB_F16 ? 0x1p-11 : 0x1p-24, unit = 0x1p-24 + s, n = (double)bound.steps;
    for (int64_t e = 0; e < count; e++) {
        double expected = hb_element_value(t.dtype, raw, e), error = fabs(got[e] - expected);
        double terms = bound.terms + bound.relative * fabs(expected);
        double gate = n > 0 ? 4 * sqrt(n) * unit * terms + 2 * s * fabs(expected) : 0;
        if (!(error <= gate) && test->verdict->result == HB_ONNX_PASS) {
            test->verdict->result = HB_ONNX_FAIL;
            snprintf(test->verdict->text, sizeof test->verdict->text,
                     "%s, first wrong element %lld: expected %.9g, got %.9g, error %.3g, bound %.3g", t.name,
                     (long long)e, expected, got[e], error, gate);
        }
        if (error > 0 && error / gate > test->share)
            test->share = error / gate;
    }
    return HB_OK;
}

static hb_status names(const struct hb_safetensors *file, const char *key, json_t **out)
{
    const char *text = hb_safetensors_metadata(file, key);
    if (!text)
        return HB_FAIL(HB_EFORMAT, "__metadata__ lacks '%s'", key);
    return hb_json_parse(key, 1, text, strlen(text), 0, out);
}

static hb_status verify(struct hb_onnx_test *test)
{
    const char *op = hb_safetensors_metadata(test->file, "op");
    if (!op)
        return HB_FAIL(HB_EFORMAT, "__metadata__ lacks 'op'");
    HB_TRY(names(test->file, "inputs", &test->inputs));
    HB_TRY(names(test->file, "outputs", &test->outputs));
    HB_TRY(names(test->file, "attributes", &test->attributes));
    HB_TRY(hb_onnx_run(test, op));
    if (test->verdict->result == HB_ONNX_PASS)
        snprintf(test->verdict->text, sizeof test->verdict->text, "%s, %.3g of the bound", op, test->share);
    return HB_OK;
}

hb_status hb_onnx_verify(const char *path, struct hb_context *context, struct hb_onnx_verdict *out)
{
    struct hb_onnx_test test = {.context = context, .verdict = out};
    *out = (struct hb_onnx_verdict){.result = HB_ONNX_PASS};
    HB_TRY(hb_safetensors_open(path, &test.file));
    hb_status status = verify(&test);
    for (int i = 0; i < test.tensor_count; i++)
        hb_free(context, test.tensors[i].data);
    for (int i = 0; i < test.host_count; i++)
        free(test.host[i]);
    json_decref(test.inputs);
    json_decref(test.outputs);
    json_decref(test.attributes);
    hb_safetensors_close(test.file);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s", path);
}
