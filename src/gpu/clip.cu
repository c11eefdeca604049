#include "gpu/gpu.h"

extern "C" {
#include "ops/clip.h"
}

enum { THREADS = 256 };

/* The sum is a chain: all threads bring the numbers, one adds. */
static __global__ void clip(const double *squares, const int32_t *order, int64_t n, float max_norm,
                            double *norm_out, struct array coef_out)
{
    SHARED(double, part, [THREADS]);
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += THREADS) {
        int64_t i = begin + threadIdx.x, count = smaller(n - begin, THREADS);
        if (i < n)
            part[threadIdx.x] = squares[order ? order[i] : i];
        __syncthreads();
        if (threadIdx.x == 0)
            for (int j = 0; j < count; j++)
                sum = sum + part[j];
        __syncthreads();
    }
    if (threadIdx.x != 0)
        return;
    double norm = sqrt(sum), coef = 1;
    if (max_norm > 0) {
        double ratio = (double)max_norm / (norm + 1e-6);
        coef = ratio > 1 ? 1 : ratio; /* a NaN stays NaN */
    }
    *norm_out = norm;
    store(coef_out, 0, (float)coef);
}

extern "C" hb_status HB_GPU(clip)(struct hb_context *context, const struct hb_clip_args *args)
{
    return launch("clip", clip, 1, THREADS, 0, gpu_stream_of(context), f64_of(&args->squares),
                  i32_of(&args->order), args->squares.shape[0], args->max_norm, f64_of(&args->norm),
                  array_of(&args->coef));
}
