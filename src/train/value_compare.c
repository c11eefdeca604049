#include "train/value_compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"

/* Element i, exactly (an i64 beyond 2^53 is rounded), with its place on the
 * line of all values of its dtype: neighbours are 1 apart, -0 and +0 too. */
static double element(const struct hb_safetensors_tensor *t, int64_t i, int64_t *place)
{
    const char *at = (const char *)t->data + (size_t)i * hb_dtype_size(t->dtype);
    uint64_t u64;
    int64_t i64;
    uint32_t u32;
    int32_t i32;
    uint16_t u16;
    double d;
    switch (t->dtype) {
    case HB_F64:
        memcpy(&u64, at, sizeof u64);
        memcpy(&d, at, sizeof d);
        *place = u64 >> 63 ? -(int64_t)(u64 & INT64_MAX) - 1 : (int64_t)u64;
        return d;
    case HB_F32:
        memcpy(&u32, at, sizeof u32);
        *place = u32 >> 31 ? -(int64_t)(u32 & INT32_MAX) - 1 : (int64_t)u32;
        return (double)hb_f32_of_bits(u32);
    case HB_BF16:
    case HB_F16:
        memcpy(&u16, at, sizeof u16);
        *place = u16 >> 15 ? -(int64_t)(u16 & INT16_MAX) - 1 : (int64_t)u16;
        return (double)(t->dtype == HB_BF16 ? hb_f32_of_bf16(u16) : hb_f32_of_f16(u16));
    case HB_I64:
        memcpy(&i64, at, sizeof i64);
        *place = i64;
        return (double)i64;
    case HB_I32:
        memcpy(&i32, at, sizeof i32);
        *place = i32;
        return i32;
    default:
        *place = (unsigned char)*at;
        return (double)*place;
    }
}

/* -1: beyond counting. */
static int64_t distance(double a, double b, int64_t place_a, int64_t place_b)
{
    if (!isfinite(a) || !isfinite(b))
        return -1;
    uint64_t gap =
        place_a > place_b ? (uint64_t)place_a - (uint64_t)place_b : (uint64_t)place_b - (uint64_t)place_a;
    return gap > INT64_MAX ? INT64_MAX : (int64_t)gap;
}

static void note(const struct hb_safetensors_tensor *a, const struct hb_safetensors_tensor *b, int64_t i,
                 struct hb_value_difference *out)
{
    int64_t place_a, place_b;
    double x = element(a, i, &place_a), y = element(b, i, &place_b);
    int64_t ulp = distance(x, y, place_a, place_b);
    if (out->different++ == 0) {
        int64_t rest = i;
        for (int d = a->rank - 1; d >= 0; d--) {
            out->first[d] = rest % a->shape[d];
            rest /= a->shape[d];
        }
        out->a = x;
        out->b = y;
        out->ulp = out->ulp_max = ulp;
    }
    if (ulp < 0 || out->ulp_max < 0)
        out->ulp_max = -1;
    else if (ulp > out->ulp_max)
        out->ulp_max = ulp;
}

static bool both_nan(const struct hb_safetensors_tensor *a, const struct hb_safetensors_tensor *b, int64_t i)
{
    int64_t place;
    return isnan(element(a, i, &place)) && isnan(element(b, i, &place));
}

static void compare_tensor(const struct hb_safetensors_tensor *a, const struct hb_safetensors_tensor *b,
                           struct hb_value_difference *out)
{
    size_t size = hb_dtype_size(a->dtype);
    *out = (struct hb_value_difference){.dtype = a->dtype, .rank = a->rank, .count = a->count};
    memcpy(out->shape, a->shape, sizeof out->shape);
    snprintf(out->name, sizeof out->name, "%s", a->name);
    if (memcmp(a->data, b->data, a->bytes) == 0)
        return;
    for (int64_t i = 0; i < a->count; i++)
        if (memcmp((const char *)a->data + (size_t)i * size, (const char *)b->data + (size_t)i * size,
                   size) != 0 &&
            !both_nan(a, b, i))
            note(a, b, i, out);
}

static hb_status compare_files(const struct hb_safetensors *a, const struct hb_safetensors *b,
                               const char *path_b, int64_t most, struct hb_value_difference *list,
                               int64_t *listed, int64_t *different)
{
    for (size_t i = 0; i < hb_safetensors_count(a); i++) {
        struct hb_safetensors_tensor x, y;
        struct hb_value_difference d;
        HB_TRY(hb_safetensors_at(a, i, &x));
        HB_TRY(hb_safetensors_find(b, x.name, &y));
        if (x.dtype != y.dtype || x.rank != y.rank || memcmp(x.shape, y.shape, sizeof x.shape) != 0)
            return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' has another shape", path_b, x.name);
        compare_tensor(&x, &y, &d);
        if (!d.different)
            continue;
        if (*listed < most)
            list[(*listed)++] = d;
        ++*different;
    }
    if (hb_safetensors_count(a) != hb_safetensors_count(b))
        return HB_FAIL(HB_ESHAPE, "%s has %zu tensors, the other %zu", path_b, hb_safetensors_count(b),
                       hb_safetensors_count(a));
    return HB_OK;
}

hb_status hb_values_compare(const char *path_a, const char *path_b, int64_t most,
                            struct hb_value_difference **list, int64_t *listed, int64_t *different,
                            int64_t *tensors)
{
    struct hb_safetensors *a = NULL, *b = NULL;
    *listed = *different = *tensors = 0;
    *list = calloc((size_t)most, sizeof **list);
    if (!*list)
        return HB_FAIL(HB_EMEMORY, "out of memory to compare tensors");
    hb_status status = hb_safetensors_open(path_a, &a);
    if (status == HB_OK)
        status = hb_safetensors_open(path_b, &b);
    if (status == HB_OK) {
        *tensors = (int64_t)hb_safetensors_count(a);
        status = compare_files(a, b, path_b, most, *list, listed, different);
    }
    hb_safetensors_close(a);
    hb_safetensors_close(b);
    if (status != HB_OK) {
        free(*list);
        *list = NULL;
    }
    return status;
}
