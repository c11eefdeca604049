#include "ops/combine.h"

#include <omp.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Columns [begin, begin + n) of token t. */
static void add_slots(const struct hb_combine_forward_args *args, int64_t t, int64_t begin, int64_t n)
{
    int64_t K = args->row_of.shape[1], C = args->y.shape[1];
    const int32_t *row_of = (const int32_t *)args->row_of.data + t * K;
    const float *weight = (const float *)args->weight.data + t * K;
    float buffer[HB_BLOCK], room[HB_BLOCK], *restrict y = hb_place(&args->y, t * C + begin, room);
    for (int64_t i = 0; i < n; i++)
        y[i] = 0;
    for (int64_t j = 0; j < K; j++) {
        const float *restrict row = hb_read(&args->rows, row_of[j] * C + begin, n, buffer);
        float w = weight[j];
        for (int64_t i = 0; i < n; i++)
            y[i] = fmaf(w, row[i], y[i]);
    }
    hb_write(&args->y, t * C + begin, n, y);
}

hb_status HB_CPU(combine_forward)(struct hb_context *context, const struct hb_combine_forward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->y.shape[1];
    int threads = hb_row_threads(context, n * K * C);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < C; i += HB_BLOCK)
            add_slots(args, t, i, hb_at_most(C - i, HB_BLOCK));
    return HB_OK;
}

/* One token; `buffer` holds 3 C numbers. */
static void backward_token(const struct hb_combine_backward_args *args, int64_t t, float *buffer)
{
    int64_t K = args->row_of.shape[1], C = args->dy.shape[1];
    const float *restrict dy = hb_read(&args->dy, t * C, C, buffer);
    for (int64_t j = 0; j < K; j++) {
        int64_t row = ((const int32_t *)args->row_of.data)[t * K + j] * C;
        float w = ((const float *)args->weight.data)[t * K + j];
        ((float *)args->dweight.data)[t * K + j] = hb_row_dot(dy, hb_read(&args->rows, row, C, buffer + C),
                                                              C);
        /* only now: drows may be rows */
        float *restrict drow = hb_place(&args->drows, row, buffer + 2 * C);
        for (int64_t i = 0; i < C; i++)
            drow[i] = w * dy[i];
        hb_write(&args->drows, row, C, drow);
    }
}

hb_status HB_CPU(combine_backward)(struct hb_context *context, const struct hb_combine_backward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dy.shape[1], stride;
    int threads = hb_row_threads(context, n * K * C);
    float *buffers;
    HB_TRY(hb_row_buffers(context, threads, 3, C, &buffers, &stride));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++)
        backward_token(args, t, buffers + omp_get_thread_num() * stride);
    return HB_OK;
}
