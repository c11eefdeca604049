/* cross_entropy: a warp has a row, lane l its elements l, l + 32, ... in that
 * order, as rule 3 adds them. Eight of them are read at a time, so that the row is
 * passed over at the speed of memory: twice for the loss, once more, with a
 * write, for the gradient. */
#include "gpu/strip.h"

extern "C" {
#include "ops/cross_entropy.h"
}

/* Calls use(x) for the elements of this lane, ascending. */
template <typename U>
static __device__ inline void for_each_of_lane(const struct array &row, int64_t origin, int64_t V, U use)
{
    for (auto s = strip_of_lane(V); s.has(0); s.next()) {
        float x[AT_ONCE];
        read_strip(x, row, origin, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            if (s.has(e))
                use(x[e]);
    }
}

static __global__ void cross_entropy_kernel(struct array logits, const int32_t *labels, float *loss,
                                            int64_t n, int64_t V, bool gradient, float factor)
{
    int lane = (int)threadIdx.x % 32;
    for (int64_t t = first_element() / 32; t < n; t += element_stride() / 32) {
        int32_t label = labels[t];
        if (label < 0) {
            if (lane == 0)
                loss[t] = 0.0f;
            for (int64_t i = lane; gradient && i < V; i += 32)
                store(logits, t * V + i, 0.0f);
            continue;
        }
        float m = -INFINITY, s = 0.0f;
        for_each_of_lane(logits, t * V, V, [&](float x) { m = larger(x, m); });
        for (int d = 16; d > 0; d /= 2)
            m = larger(__shfl_xor_sync(WARP, m, d), m);
        for_each_of_lane(logits, t * V, V, [&](float x) { s = s + hb_expf(x - m); });
        s = lanes_sum(s);
        if (lane == 0)
            loss[t] = (m + hb_logf(s)) - load(logits, t * V + label);
        __syncwarp(); /* the label's logit is read */
        for (auto strip = strip_of_lane(gradient ? V : 0); strip.has(0); strip.next()) {
            float x[AT_ONCE];
            read_strip(x, logits, t * V, strip);
            UNROLL
            for (int e = 0; e < AT_ONCE; e++) {
                float p = hb_expf(x[e] - m) / s, target = strip.at(e) == label ? 1.0f : 0.0f;
                x[e] = (p - target) * factor;
            }
            write_strip(logits, t * V, strip, x);
        }
    }
}

extern "C" hb_status HB_GPU(cross_entropy)(struct hb_context *context,
                                           const struct hb_cross_entropy_args *args)
{
    int64_t n = args->logits.shape[0], V = args->logits.shape[1];
    return launch("cross_entropy", cross_entropy_kernel, blocks_for(32 * n, 256), 256, 0,
                  gpu_stream_of(context), array_of(&args->logits), i32_of(&args->labels), f32_of(&args->loss),
                  n, V, args->gradient, args->factor);
}
