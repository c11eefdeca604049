#include "ops/rope.h"

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
    const float *x = args->x.data, *cosine = args->cosine.data, *sine = args->sine.data;
    float *y = args->y.data;
    bool backward = args->backward;
#pragma omp parallel for num_threads(hb_row_threads(context, n *H *D)) schedule(static)
    for (int64_t t = 0; t < n; t++)
        for (int64_t h = 0; h < H; h++) {
            int64_t row = (t * H + h) * D, angle = positions[t] * half;
            if (backward)
                rotate_back(x + row, cosine + angle, sine + angle, half, y + row);
            else
                rotate(x + row, cosine + angle, sine + angle, half, y + row);
        }
    return HB_OK;
}
