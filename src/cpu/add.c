#include "ops/add.h"

#include "cpu/cpu.h"
#include "cpu/row.h"

enum { BLOCK = 8192 }; /* elements that a thread takes at once */

static void add_integers(const int64_t *a, const int64_t *b, int64_t n, int64_t *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_floats(const float *a, const float *b, int64_t n, float *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

hb_status HB_CPU(add)(struct hb_context *context, const struct hb_add_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    bool integers = args->out.dtype == HB_I64;
    const void *a = args->a.data, *b = args->b.data;
    void *out = args->out.data;
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t count = hb_at_most(n - i, BLOCK);
        if (integers)
            add_integers((const int64_t *)a + i, (const int64_t *)b + i, count, (int64_t *)out + i);
        else
            add_floats((const float *)a + i, (const float *)b + i, count, (float *)out + i);
    }
    return HB_OK;
}
