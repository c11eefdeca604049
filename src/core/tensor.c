#include "core/tensor.h"

#include <stdio.h>

static struct hb_tensor view(const struct hb_context *home, void *data, enum hb_dtype dtype, int rank,
                             int64_t n0, int64_t n1, int64_t n2)
{
    return (struct hb_tensor){
        .data = data, .home = home, .dtype = dtype, .rank = rank, .shape = {n0, n1, n2, 1, 1, 1}};
}

struct hb_tensor hb_tensor_1d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t n)
{
    return view(home, data, dtype, 1, n, 1, 1);
}

struct hb_tensor hb_tensor_2d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t rows,
                              int64_t columns)
{
    return view(home, data, dtype, 2, rows, columns, 1);
}

struct hb_tensor hb_tensor_3d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t n0,
                              int64_t n1, int64_t n2)
{
    return view(home, data, dtype, 3, n0, n1, n2);
}

int64_t hb_tensor_count(const struct hb_tensor *t)
{
    int64_t count = 1;
    for (int d = 0; d < t->rank; d++)
        count *= t->shape[d];
    return count;
}

size_t hb_tensor_bytes(const struct hb_tensor *t)
{
    return (size_t)hb_tensor_count(t) * hb_dtype_size(t->dtype);
}

char *hb_tensor_describe(const struct hb_tensor *t, char *text, size_t size)
{
    int used = snprintf(text, size, "%s[", hb_dtype_name(t->dtype));
    for (int d = 0; d < t->rank && (size_t)used < size; d++)
        used += snprintf(text + used, size - (size_t)used, d ? ",%lld" : "%lld", (long long)t->shape[d]);
    if ((size_t)used < size)
        snprintf(text + used, size - (size_t)used, "]");
    return text;
}

struct hb_tensor hb_tensor_as_2d(struct hb_tensor t, int64_t rows, int64_t columns)
{
    return hb_tensor_2d(t.home, t.data, t.dtype, rows, columns);
}

struct hb_tensor hb_tensor_as_3d(struct hb_tensor t, int64_t n0, int64_t n1, int64_t n2)
{
    return hb_tensor_3d(t.home, t.data, t.dtype, n0, n1, n2);
}

struct hb_tensor hb_tensor_rows(struct hb_tensor t, int64_t begin, int64_t count)
{
    int64_t row = 1;
    for (int d = 1; d < t.rank; d++)
        row *= t.shape[d];
    t.data = (char *)t.data + (size_t)(begin * row) * hb_dtype_size(t.dtype);
    t.shape[0] = count;
    return t;
}

bool hb_tensor_same_shape(const struct hb_tensor *a, const struct hb_tensor *b)
{
    if (a->rank != b->rank)
        return false;
    for (int d = 0; d < a->rank; d++)
        if (a->shape[d] != b->shape[d])
            return false;
    return true;
}
