#include "ops/rope.h"

#include <omp.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* x may be y: each step reads both of a pair before it writes them. */
static void rotate(const float *x, const float *cosine, const float *sine, int64_t half, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float low = x[i], high = x[i + half];
        y[i] = fmaf(low, cosine[i], -(high * sine[i]));
        y[i + half] = fmaf(high, cosine[i], low * sine[i]);
    }
}

static void rotate_back(const float *x, const float *cosine, const float *sine, int64_t half, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float low = x[i], high = x[i + half];
        y[i] = fmaf(low, cosine[i], high * sine[i]);
        y[i + half] = fmaf(high, cosine[i], -(low * sine[i]));
    }
}

hb_status HB_CPU(rope)(struct hb_context *context, const struct hb_rope_args *args)
{
    int64_t n = args->x.shape[0], H = args->x.shape[1], D = args->x.shape[2], half = D / 2;
    const int32_t *positions = args->positions.data;
    const float *cosine = args->cosine.data, *sine = args->sine.data;
    int threads = hb_row_threads(context, n * H * D);
    float *buffers;
    int64_t stride;
    HB_TRY(hb_row_buffers(context, threads, 2, D, &buffers, &stride));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++)
        for (int64_t h = 0; h < H; h++) {
            int64_t row = (t * H + h) * D, angle = positions[t] * half;
            float *own = buffers + omp_get_thread_num() * stride, *y = hb_place(&args->y, row, own + D);
            const float *x = hb_read(&args->x, row, D, own);
            if (args->backward)
                rotate_back(x, cosine + angle, sine + angle, half, y);
            else
                rotate(x, cosine + angle, sine + angle, half, y);
            hb_write(&args->y, row, D, y);
        }
    return HB_OK;
}
