#include "ops/add.h"

#include "cpu/cpu.h"
#include "cpu/row.h"

static void add_integers(int threads, const int64_t *a, const int64_t *b, int64_t *out, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_floats(int threads, const float *a, const float *b, float *out, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

hb_status HB_CPU(add)(struct hb_context *context, const struct hb_add_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    int threads = hb_row_threads(context, n);
    if (args->out.dtype == HB_I64)
        add_integers(threads, args->a.data, args->b.data, args->out.data, n);
    else
        add_floats(threads, args->a.data, args->b.data, args->out.data, n);
    return HB_OK;
}
