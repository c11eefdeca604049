#include "ops/combine.h"

#include "ref/ref.h"

hb_status HB_REF(combine_forward)(struct hb_context *context, const struct hb_combine_forward_args *args)
{
    (void)context;
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->y.shape[1];
    const int32_t *row_of = args->row_of.data;
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < C; i++) {
            real y = 0;
            for (int64_t j = 0; j < K; j++)
                y = real_fma(load(&args->weight, t * K + j), load(&args->rows, row_of[t * K + j] * C + i), y);
            store(&args->y, t * C + i, y);
        }
    return HB_OK;
}

hb_status HB_REF(combine_backward)(struct hb_context *context, const struct hb_combine_backward_args *args)
{
    (void)context;
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dy.shape[1];
    const int32_t *row_of = args->row_of.data;
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < K; j++) {
            int64_t row = row_of[t * K + j];
            real w = load(&args->weight, t * K + j);
            real lane[32] = {0};
            for (int64_t i = 0; i < C; i++) {
                real dy = load(&args->dy, t * C + i);
                lane[i % 32] = real_fma(dy, load(&args->rows, row * C + i), lane[i % 32]);
                store(&args->drows, row * C + i, w * dy);
            }
            store(&args->dweight, t * K + j, lanes_sum(lane));
        }
    return HB_OK;
}
