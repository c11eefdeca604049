#include "ops/column_sum.h"

#include "ref/ref.h"

/* Rule 4: chunks of 64 rows, sequential inside a chunk, chunk sums by the fold tree. */
hb_status HB_REF(column_sum)(struct hb_context *context, const struct hb_column_sum_args *args)
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
            real sum = load(&args->x, 64 * c * D + i);
            for (int64_t t = 64 * c + 1; t < n && t < 64 * (c + 1); t++)
                sum = sum + load(&args->x, t * D + i);
            chunk[c] = sum;
        }
        real sum = real_tree_sum(chunk, chunks);
        if (args->epilogue == HB_ADD)
            sum = load(&args->out, i) + sum;
        store(&args->out, i, sum);
    }
    return HB_OK;
}
