#include "ops/rmsnorm.h"

#include "ref/ref.h"

hb_status HB_REF(rmsnorm_forward)(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    (void)context;
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    for (int64_t t = 0; t < n; t++) {
        real lane[32] = {0};
        for (int64_t i = 0; i < D; i++) {
            real x = load(&args->x, t * D + i);
            lane[i % 32] = real_fma(x, x, lane[i % 32]);
        }
        real r = 1 / real_sqrt(lanes_sum(lane) / (real)D + (real)args->eps);
        for (int64_t i = 0; i < D; i++)
            store(&args->y, t * D + i, (load(&args->x, t * D + i) * r) * load(&args->weight, i));
        store(&args->rstd, t, r);
    }
    return HB_OK;
}

hb_status HB_REF(rmsnorm_backward_input)(struct hb_context *context,
                                         const struct hb_rmsnorm_backward_input_args *args)
{
    (void)context;
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    for (int64_t t = 0; t < n; t++) {
        real r = load(&args->rstd, t);
        real lane[32] = {0};
        for (int64_t i = 0; i < D; i++) {
            real dyw = load(&args->dy, t * D + i) * load(&args->weight, i);
            lane[i % 32] = real_fma(dyw, load(&args->x, t * D + i), lane[i % 32]);
        }
        real c = ((r * r) * lanes_sum(lane)) / (real)D;
        for (int64_t i = 0; i < D; i++) {
            real dyw = load(&args->dy, t * D + i) * load(&args->weight, i);
            store(&args->dx, t * D + i, r * real_fma(-load(&args->x, t * D + i), c, dyw));
        }
    }
    return HB_OK;
}

/* Rule 4: chunks of 64 rows, a chain inside a chunk, chunk sums by the fold tree. */
hb_status HB_REF(rmsnorm_backward_weight)(struct hb_context *context,
                                          const struct hb_rmsnorm_backward_weight_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    if (n == 0 && args->epilogue == HB_ADD)
        return HB_OK;
    int64_t chunks = (n + 63) / 64;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)chunks * sizeof(real), &workspace));
    real *chunk = workspace;
    for (int64_t i = 0; i < D; i++) {
        for (int64_t c = 0; c < chunks; c++) {
            real sum = 0;
            for (int64_t t = 64 * c; t < n && t < 64 * (c + 1); t++)
                sum = real_fma(load(&args->dy, t * D + i),
                               load(&args->x, t * D + i) * load(&args->rstd, t), sum);
            chunk[c] = sum;
        }
        real sum = real_tree_sum(chunk, chunks);
        if (args->epilogue == HB_ADD)
            sum = load(&args->dweight, i) + sum;
        store(&args->dweight, i, sum);
    }
    return HB_OK;
}
