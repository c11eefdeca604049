#include "gpu/gpu.h"

extern "C" {
#include "ops/balance.h"
}

/* One warp: E is at most a few hundred. */
static __global__ void loss(const int64_t *counts, struct array prob_sum, int64_t L, int64_t E, int64_t rows,
                            int64_t denominator, struct array fraction, struct array out)
{
    float lane = 0.0f;
    for (int64_t i = threadIdx.x; i < E; i += 32) {
        int64_t sum = 0;
        for (int64_t l = 0; l < L; l++)
            sum += counts[l * E + i];
        float f = (float)((double)sum / (double)denominator);
        float p = load(prob_sum, i) / (float)rows;
        lane = fmaf(f, p, lane);
        store(fraction, i, f);
    }
    lane = lanes_sum(lane);
    if (threadIdx.x == 0)
        store(out, 0, (float)E * lane);
}

static __global__ void move_bias(const int64_t *counts, int64_t E, float rate, const int32_t *found,
                                 struct array bias)
{
    int64_t total = 0;
    for (int64_t i = threadIdx.x; i < E; i += 32)
        total += counts[i];
    for (int s = 16; s > 0; s /= 2)
        total += __shfl_xor_sync(WARP, total, s);
    for (int64_t i = threadIdx.x; i < E && !*found; i += 32) {
        if (counts[i] * E < total)
            store(bias, i, load(bias, i) + rate);
        if (counts[i] * E > total)
            store(bias, i, load(bias, i) - rate);
    }
}

extern "C" hb_status HB_GPU(balance_loss)(struct hb_context *context, const struct hb_balance_loss_args *args)
{
    return launch("balance_loss", loss, 1, 32, 0, gpu_stream_of(context), i64_of(&args->counts),
                  array_of(&args->prob_sum), args->counts.shape[0], args->counts.shape[1], args->rows,
                  args->denominator, array_of(&args->fraction), array_of(&args->loss));
}

extern "C" hb_status HB_GPU(balance_bias)(struct hb_context *context, const struct hb_balance_bias_args *args)
{
    return launch("balance_bias", move_bias, 1, 32, 0, gpu_stream_of(context), i64_of(&args->counts),
                  args->counts.shape[0], args->rate, i32_of(&args->found), array_of(&args->bias));
}
