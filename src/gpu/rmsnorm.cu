#include "gpu/columns.h"
#include "gpu/strip.h"

extern "C" {
#include "ops/rmsnorm.h"
}

/* A warp a row, WARPS rows a block. */
enum { WARPS = 4, THREADS = 32 * WARPS };

static dim3 blocks_of_rows(int64_t rows)
{
    return blocks_for(rows, WARPS);
}

static __device__ inline int64_t row_of_warp(void)
{
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
}

/* y may be x: every element is read before its lane writes it. */
static __global__ void forward(struct array x, struct array weight, struct array y, float *rstd, int64_t n,
                               int64_t D, float eps)
{
    int64_t t = row_of_warp(), end = t < n ? D : 0;
    int lane = (int)(threadIdx.x % 32);
    float sum = 0.0f;
    for (auto s = strip_of_lane(end); s.has(0); s.next()) {
        float v[AT_ONCE];
        read_strip(v, x, t * D, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            if (s.has(e))
                sum = fmaf(v[e], v[e], sum);
    }
    float r = 1.0f / sqrtf(lanes_sum(sum) / (float)D + eps);
    for (auto s = strip_of_lane(end); s.has(0); s.next()) {
        float v[AT_ONCE], w[AT_ONCE];
        read_strip(v, x, t * D, s);
        read_strip(w, weight, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            v[e] = (v[e] * r) * w[e];
        write_strip(y, t * D, s, v);
    }
    if (lane == 0 && t < n)
        rstd[t] = r;
}

static __global__ void backward_input(struct array x, struct array weight, const float *rstd, struct array dy,
                                      struct array dx, int64_t n, int64_t D)
{
    int64_t t = row_of_warp(), end = t < n ? D : 0;
    float r = t < n ? rstd[t] : 0.0f, sum = 0.0f, v[AT_ONCE], d[AT_ONCE], w[AT_ONCE];
    for (auto s = strip_of_lane(end); s.has(0); s.next()) {
        read_strip(v, x, t * D, s);
        read_strip(d, dy, t * D, s);
        read_strip(w, weight, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            if (s.has(e))
                sum = fmaf(d[e] * w[e], v[e], sum);
    }
    float c = ((r * r) * lanes_sum(sum)) / (float)D;
    for (auto s = strip_of_lane(end); s.has(0); s.next()) {
        read_strip(v, x, t * D, s);
        read_strip(d, dy, t * D, s);
        read_strip(w, weight, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            v[e] = r * fmaf(-v[e], c, d[e] * w[e]);
        write_strip(dx, t * D, s, v);
    }
}

/* Rule 4: a chain over the rows of a chunk, from +0. */
struct weight_gradient {
    struct array x, dy;
    const float *rstd;
    int64_t D;

    __device__ inline float chunk(int64_t begin, int64_t end, int64_t i) const
    {
        float sum = 0.0f, d[ROWS_AT_ONCE], v[ROWS_AT_ONCE];
        for (int64_t t = begin; t < end; t += ROWS_AT_ONCE) {
            read_rows(d, dy, t, end, D, i);
            read_rows(v, x, t, end, D, i);
            UNROLL
            for (int e = 0; e < ROWS_AT_ONCE; e++)
                if (t + e < end)
                    sum = fmaf(d[e], v[e] * rstd[t + e], sum);
        }
        return sum;
    }
};

static __global__ void weight_chunks(struct array x, struct array dy, const float *rstd, int64_t n, int64_t D,
                                     float *chunks)
{
    struct weight_gradient gradient = {x, dy, rstd, D};
    sum_chunks(gradient, n, D, chunks);
}

extern "C" hb_status HB_GPU(rmsnorm_forward)(struct hb_context *context,
                                             const struct hb_rmsnorm_forward_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    return launch("rmsnorm_forward", forward, blocks_of_rows(n), THREADS, 0, gpu_stream_of(context),
                  array_of(&args->x), array_of(&args->weight), array_of(&args->y), f32_of(&args->rstd), n, D,
                  args->eps);
}

extern "C" hb_status HB_GPU(rmsnorm_backward_input)(struct hb_context *context,
                                         const struct hb_rmsnorm_backward_input_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    return launch("rmsnorm_backward_input", backward_input, blocks_of_rows(n), THREADS, 0,
                  gpu_stream_of(context), array_of(&args->x), array_of(&args->weight), f32_of(&args->rstd),
                  array_of(&args->dy), array_of(&args->dx), n, D);
}

extern "C" hb_status HB_GPU(rmsnorm_backward_weight)(struct hb_context *context,
                                          const struct hb_rmsnorm_backward_weight_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    bool add = args->epilogue == HB_ADD;
    if (n == 0 && add)
        return HB_OK;
    void *chunks;
    HB_TRY(gpu_workspace(context, chunk_bytes(n, D), &chunks));
    HB_TRY(launch("rmsnorm_backward_weight", weight_chunks, chunk_grid(n, D), COLUMNS, 0,
                  gpu_stream_of(context), array_of(&args->x), array_of(&args->dy), f32_of(&args->rstd), n, D,
                  static_cast<float *>(chunks)));
    return launch("rmsnorm_backward_weight", add_chunks, blocks_for(D, COLUMNS), COLUMNS, 0,
                  gpu_stream_of(context), static_cast<const float *>(chunks), chunks_of(n), D,
                  array_of(&args->dweight), add);
}
