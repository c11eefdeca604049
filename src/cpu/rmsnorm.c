#include "ops/rmsnorm.h"

#include <omp.h>
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

static float normalise(const float *x, const float *weight, float eps, int64_t D, float *y)
{
    float r = 1.0f / sqrtf(hb_row_dot(x, x, D) / (float)D + eps);
#pragma omp simd
    for (int64_t i = 0; i < D; i++)
        y[i] = (x[i] * r) * weight[i];
    return r;
}

hb_status HB_CPU(rmsnorm_forward)(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    int threads = hb_row_threads(context, n * D);
    float *buffers, *rstd = args->rstd.data;
    int64_t stride;
    HB_TRY(hb_row_buffers(context, threads + 1, 2, D, &buffers, &stride));
    const float *weight = hb_read(&args->weight, 0, D, buffers + threads * stride);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++) {
        float *own = buffers + omp_get_thread_num() * stride, *y = hb_place(&args->y, t * D, own + D);
        rstd[t] = normalise(hb_read(&args->x, t * D, D, own), weight, args->eps, D, y);
        hb_write(&args->y, t * D, D, y);
    }
    return HB_OK;
}

/* dot(dy w, x): the product of the weight is rounded before the chain. */
static float weighted_dot(const float *dy, const float *weight, const float *x, int64_t D)
{
    struct hb_lanes lanes = hb_lanes_zero();
    int64_t i = 0;
    for (; i + HB_LANES <= D; i += HB_LANES)
        for (int j = 0; j < HB_LANE_VECS; j++) {
            int64_t at = i + j * VEC_WIDTH;
            vec dyw = vec_mul(vec_load(dy + at), vec_load(weight + at));
            lanes.v[j] = vec_fma(dyw, vec_load(x + at), lanes.v[j]);
        }
    if (i < D) {
        float lane[HB_LANES];
        hb_lanes_store(lane, lanes);
        for (int l = 0; i + l < D; l++)
            lane[l] = fmaf(dy[i + l] * weight[i + l], x[i + l], lane[l]);
        lanes = hb_lanes_load(lane);
    }
    return hb_lanes_sum(lanes);
}

static void backward_row(const float *x, const float *weight, float r, const float *dy, int64_t D, float *dx)
{
    float c = ((r * r) * weighted_dot(dy, weight, x, D)) / (float)D;
#pragma omp simd
    for (int64_t i = 0; i < D; i++)
        dx[i] = r * fmaf(-x[i], c, dy[i] * weight[i]);
}

hb_status HB_CPU(rmsnorm_backward_input)(struct hb_context *context,
                                         const struct hb_rmsnorm_backward_input_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    int threads = hb_row_threads(context, n * D);
    const float *rstd = args->rstd.data;
    float *buffers;
    int64_t stride;
    HB_TRY(hb_row_buffers(context, threads + 1, 3, D, &buffers, &stride));
    const float *weight = hb_read(&args->weight, 0, D, buffers + threads * stride);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++) {
        float *own = buffers + omp_get_thread_num() * stride, *dx = hb_place(&args->dx, t * D, own + 2 * D);
        backward_row(hb_read(&args->x, t * D, D, own), weight, rstd[t], hb_read(&args->dy, t * D, D, own + D),
                     D, dx);
        hb_write(&args->dx, t * D, D, dx);
    }
    return HB_OK;
}

/* Rows [begin, end), columns from `column` on. */
static void sum_chunk(const struct hb_rmsnorm_backward_weight_args *args, int64_t begin, int64_t end,
                      int64_t column, int64_t width, float *sum)
{
    int64_t D = args->x.shape[1];
    float x[HB_COLUMNS], dy[HB_COLUMNS];
    memset(sum, 0, (size_t)width * sizeof *sum);
    for (int64_t t = begin; t < end; t++) {
        const float *xt = hb_read(&args->x, t * D + column, width, x);
        const float *dyt = hb_read(&args->dy, t * D + column, width, dy);
        float r = ((const float *)args->rstd.data)[t];
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            sum[i] = fmaf(dyt[i], xt[i] * r, sum[i]);
    }
}

hb_status HB_CPU(rmsnorm_backward_weight)(struct hb_context *context,
                                          const struct hb_rmsnorm_backward_weight_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    float *dweight = args->dweight.data;
    if (n == 0) {
        if (args->epilogue == HB_STORE)
            memset(dweight, 0, (size_t)D * sizeof *dweight);
        return HB_OK;
    }
    int64_t chunks = (n + HB_CHUNK_ROWS - 1) / HB_CHUNK_ROWS;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(chunks * D) * sizeof(float), &workspace));
    float *sums = workspace;
    int threads = hb_row_threads(context, n * D);
    int64_t block = hb_column_block(D, chunks, threads);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (int64_t c = 0; c < chunks; c++)
            for (int64_t column = 0; column < D; column += block) {
                int64_t row = c * HB_CHUNK_ROWS;
                sum_chunk(args, row, hb_at_most(n, row + HB_CHUNK_ROWS), column,
                          hb_at_most(D - column, block), sums + c * D + column);
            }
#pragma omp for schedule(static)
        for (int64_t column = 0; column < D; column += HB_FOLD_BLOCK)
            hb_columns_finish(sums + column, chunks, D, hb_at_most(D - column, HB_FOLD_BLOCK), args->epilogue,
                              dweight + column);
    }
    return HB_OK;
}
