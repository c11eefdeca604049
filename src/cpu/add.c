#include "ops/add.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

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

static void add_block(const struct hb_add_args *args, int64_t begin, int64_t n)
{
    float a[HB_BLOCK], b[HB_BLOCK], room[HB_BLOCK], *out = hb_place(&args->out, begin, room);
    add_floats(hb_read(&args->a, begin, n, a), hb_read(&args->b, begin, n, b), n, out);
    hb_write(&args->out, begin, n, out);
}

hb_status HB_CPU(add)(struct hb_context *context, const struct hb_add_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    bool integers = args->out.dtype == HB_I64;
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += HB_BLOCK) {
        int64_t count = hb_at_most(n - i, HB_BLOCK);
        if (integers)
            add_integers((const int64_t *)args->a.data + i, (const int64_t *)args->b.data + i, count,
                         (int64_t *)args->out.data + i);
        else
            add_block(args, i, count);
    }
    return HB_OK;
}
