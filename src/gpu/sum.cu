#include "gpu/strip.h"

extern "C" {
#include "core/hash.h"
#include "ops/sum.h"
}

/* Rule 21: a warp a chunk, its 32 lanes in fp64. */
enum { WARPS = 4 };

static __global__ void sum_chunks(struct array x, int64_t each, int64_t chunks, int64_t total, bool squares,
                                  float factor, double *sums, int32_t *found, float bound, int64_t *extremes)
{
    int64_t number = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int64_t g = number / chunks, begin = number % chunks * HB_CHUNK;
    int64_t end = smaller(begin + HB_CHUNK, each);
    if (number >= total)
        end = begin;
    double lane = 0;
    int overflow = 0, underflow = 0;
    for (auto s = strip_of_lane(end - begin); s.has(0); s.next()) {
        float value[AT_ONCE];
        read_strip(value, x, g * each + begin, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            double v = (double)(value[e] * factor);
            if (s.has(e))
                lane = squares ? fma(v, v, lane) : lane + v;
            float size = value[e] < 0 ? -value[e] : value[e]; /* 0 behind the end is neither */
            overflow += (~hb_bits_of_f32(value[e]) & 0x7f800000u) == 0;
            underflow += size > 0 && size < bound;
        }
    }
    double sum = lanes_sum(lane);
    if (threadIdx.x % 32 == 0 && number < total)
        sums[number] = sum;
    if (overflow && found)
        atomicOr(found, 1);
    add_extremes(extremes, overflow, underflow);
}

/* The fold tree, level by level: neighbours are added, who has none goes up as it is. A block a tensor. */
static __global__ void fold_chunks(double *sums, int64_t chunks, double *out)
{
    double *mine = sums + blockIdx.x * chunks;
    for (int64_t apart = 1; apart < chunks; apart *= 2) {
        for (int64_t i = 2 * apart * threadIdx.x; i + apart < chunks; i += 2 * apart * blockDim.x)
            mine[i] = mine[i] + mine[i + apart];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = chunks ? mine[0] : 0.0;
}

extern "C" hb_status HB_GPU(sum)(struct hb_context *context, const struct hb_sum_args *args)
{
    int64_t G = args->out.shape[0], each = hb_tensor_count(&args->x) / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    void *sums;
    HB_TRY(gpu_workspace(context, (size_t)(G * chunks) * sizeof(double), &sums));
    HB_TRY(launch("sum", sum_chunks, blocks_for(G * chunks, WARPS), 32 * WARPS, 0, gpu_stream_of(context),
                  array_of(&args->x), each, chunks, G * chunks, args->squares, args->factor,
                  static_cast<double *>(sums), i32_of(&args->found), (float)hb_sum_underflow_bound(args),
                  i64_of(&args->extremes)));
    return launch("sum", fold_chunks, (unsigned)G, chunks > 512 ? 512 : 32, 0, gpu_stream_of(context),
                  static_cast<double *>(sums), chunks, f64_of(&args->out));
}
