#include "gpu/strip.h"

extern "C" {
#include "ops/combine.h"
}

/* A block a token, its threads over the columns; slots ascending. */
static __global__ void forward(struct array rows, const int32_t *row_of, struct array weight, struct array y,
                               int64_t K, int64_t C)
{
    int64_t t = blockIdx.x;
    for (auto s = strip_of_block(C); s.has(0); s.next()) {
        float sum[AT_ONCE] = {0}, x[AT_ONCE];
        for (int64_t j = 0; j < K; j++) {
            float w = load(weight, t * K + j);
            read_strip(x, rows, row_of[t * K + j] * C, s);
            UNROLL
            for (int e = 0; e < AT_ONCE; e++)
                sum[e] = fmaf(w, x[e], sum[e]);
        }
        write_strip(y, t * C, s, sum);
    }
}

/* A warp a (token, slot); drows may be rows: a lane reads an element before it writes it. */
enum { WARPS = 4 };

static __global__ void backward(struct array rows, const int32_t *row_of, struct array weight,
                                struct array dy, struct array drows, struct array dweight, int64_t pairs,
                                int64_t K, int64_t C)
{
    int64_t pair = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, end = pair < pairs ? C : 0;
    int lane = (int)(threadIdx.x % 32);
    int64_t t = pair / K, row = end ? row_of[pair] : 0;
    float w = end ? load(weight, pair) : 0.0f, sum = 0.0f;
    for (auto s = strip_of_lane(end); s.has(0); s.next()) {
        float d[AT_ONCE], x[AT_ONCE];
        read_strip(d, dy, t * C, s);
        read_strip(x, rows, row * C, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            if (s.has(e))
                sum = fmaf(d[e], x[e], sum);
            d[e] = w * d[e];
        }
        write_strip(drows, row * C, s, d);
    }
    sum = lanes_sum(sum);
    if (lane == 0 && pair < pairs)
        store(dweight, pair, sum);
}

extern "C" hb_status HB_GPU(combine_forward)(struct hb_context *context,
                                             const struct hb_combine_forward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->y.shape[1];
    int threads = C < 256 ? (int)((C + 31) / 32 * 32) : 256;
    return launch("combine_forward", forward, (unsigned)n, threads, 0, gpu_stream_of(context),
                  array_of(&args->rows), i32_of(&args->row_of), array_of(&args->weight), array_of(&args->y),
                  K, C);
}

extern "C" hb_status HB_GPU(combine_backward)(struct hb_context *context,
                                              const struct hb_combine_backward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dy.shape[1];
    return launch("combine_backward", backward, blocks_for(n * K, WARPS), 32 * WARPS, 0,
                  gpu_stream_of(context), array_of(&args->rows), i32_of(&args->row_of),
                  array_of(&args->weight), array_of(&args->dy), array_of(&args->drows),
                  array_of(&args->dweight), n * K, K, C);
}
