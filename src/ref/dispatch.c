#include "ops/dispatch.h"

#include "ref/ref.h"

/* A counting sort: offsets[e + 1] first counts the pairs of expert e, then becomes
 * the row where its next pair goes; at the end it is where expert e + 1 starts. */
hb_status HB_REF(dispatch_plan)(struct hb_context *context, const struct hb_dispatch_plan_args *args)
{
    (void)context;
    int64_t pairs = hb_tensor_count(&args->index), E = args->offsets.shape[0] - 1;
    const int32_t *index = args->index.data;
    int32_t *offsets = args->offsets.data, *row_of = args->row_of.data, *pair_of = args->pair_of.data;
    for (int64_t e = 0; e <= E; e++)
        offsets[e] = 0;
    for (int64_t pair = 0; pair < pairs; pair++)
        offsets[index[pair] + 1]++;
    int32_t start = 0;
    for (int64_t e = 0; e < E; e++) {
        int32_t count = offsets[e + 1];
        offsets[e + 1] = start;
        start += count;
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        int32_t row = offsets[index[pair] + 1]++;
        row_of[pair] = row;
        pair_of[row] = (int32_t)pair;
    }
    return HB_OK;
}

hb_status HB_REF(dispatch_forward)(struct hb_context *context, const struct hb_dispatch_forward_args *args)
{
    (void)context;
    int64_t n = args->x.shape[0], C = args->x.shape[1], pairs = args->pair_of.shape[0];
    const int32_t *pair_of = args->pair_of.data;
    for (int64_t r = 0; r < pairs; r++) {
        int64_t t = pair_of[r] / (pairs / n);
        for (int64_t i = 0; i < C; i++)
            store(&args->rows, r * C + i, load(&args->x, t * C + i));
    }
    return HB_OK;
}

hb_status HB_REF(dispatch_backward)(struct hb_context *context, const struct hb_dispatch_backward_args *args)
{
    (void)context;
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dx.shape[1];
    const int32_t *row_of = args->row_of.data;
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < C; i++) {
            real sum = load(&args->drows, row_of[t * K] * C + i);
            for (int64_t j = 1; j < K; j++)
                sum = sum + load(&args->drows, row_of[t * K + j] * C + i);
            store(&args->dx, t * C + i, sum);
        }
    return HB_OK;
}
