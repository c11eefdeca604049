#include "ops/combine.h"

#include "cpu/cpu.h"
#include "cpu/row.h"

hb_status HB_CPU(combine_forward)(struct hb_context *context, const struct hb_combine_forward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->y.shape[1];
    const float *rows = args->rows.data, *weight = args->weight.data;
    const int32_t *row_of = args->row_of.data;
    int threads = hb_row_threads(context, n * K * C);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++) {
        float *restrict y = (float *)args->y.data + t * C;
        for (int64_t i = 0; i < C; i++)
            y[i] = 0;
        for (int64_t j = 0; j < K; j++) {
            const float *restrict row = rows + row_of[t * K + j] * C;
            float w = weight[t * K + j];
            for (int64_t i = 0; i < C; i++)
                y[i] = fmaf(w, row[i], y[i]);
        }
    }
    return HB_OK;
}

hb_status HB_CPU(combine_backward)(struct hb_context *context, const struct hb_combine_backward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dy.shape[1];
    const float *weight = args->weight.data;
    const int32_t *row_of = args->row_of.data;
    float *dweight = args->dweight.data;
    int threads = hb_row_threads(context, n * K * C);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++) {
        const float *restrict dy = (const float *)args->dy.data + t * C;
        for (int64_t j = 0; j < K; j++) {
            int64_t row = row_of[t * K + j];
            float w = weight[t * K + j];
            dweight[t * K + j] = hb_row_dot(dy, (const float *)args->rows.data + row * C, C);
            /* only now: drows may be rows */
            float *restrict drow = (float *)args->drows.data + row * C;
            for (int64_t i = 0; i < C; i++)
                drow[i] = w * dy[i];
        }
    }
    return HB_OK;
}
