/* A backend of one's own, complete: two ops, everything else from `cpu`.
 *
 *     cc -std=gnu11 -O2 -ffp-contract=off -fPIC -shared $(pkg-config --cflags hornbook) plugin.c -o mine.so
 *     hornbook verify --backend ./mine.so
 *
 * `add` is right. `column_sum` has a mistake that many kernels had once: rows are
 * taken four at a time, and what remains at the end is forgotten. verify says
 * which cases show it, and where. */
#include "ops/backend.h"

static hb_status my_add(struct hb_context *context, const struct hb_add_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    (void)context;
    if (args->out.dtype == HB_I64) {
        const int64_t *a = args->a.data, *b = args->b.data;
        int64_t *out = args->out.data;
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] + b[i];
        return HB_OK;
    }
    const float *a = args->a.data, *b = args->b.data;
    float *out = args->out.data;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
    return HB_OK;
}

/* Rows [64 chunk, 64 chunk + 64) of one column, in order. */
static float chunk_sum(const float *x, int64_t rows, int64_t D, int64_t chunk)
{
    int64_t begin = 64 * chunk, end = begin + 64 < rows ? begin + 64 : rows;
    float sum = x[begin * D];
    for (int64_t t = begin + 1; t < end; t++)
        sum = sum + x[t * D];
    return sum;
}

/* The fold tree: [begin, end) splits at the largest power of two below its length. */
static float tree_sum(const float *x, int64_t rows, int64_t D, int64_t begin, int64_t end)
{
    int64_t half = 1;
    if (end - begin == 1)
        return chunk_sum(x, rows, D, begin);
    while (2 * half < end - begin)
        half = 2 * half;
    return tree_sum(x, rows, D, begin, begin + half) + tree_sum(x, rows, D, begin + half, end);
}

static hb_status my_column_sum(struct hb_context *context, const struct hb_column_sum_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    const float *x = args->x.data;
    float *out = args->out.data;
    (void)context;
    int64_t rows = n - n % 4; /* the mistake */
    for (int64_t i = 0; i < D; i++) {
        float sum = rows ? tree_sum(x + i, rows, D, 0, (rows + 63) / 64) : 0;
        if (args->epilogue == HB_ADD && n)
            sum = out[i] + sum;
        if (args->epilogue == HB_STORE || n)
            out[i] = sum;
    }
    return HB_OK;
}

const struct hb_backend hb_backend_plugin = {
    .api_version = HB_BACKEND_API,
    .name = "mine",
    .base = "cpu",
    .about = "an example with a mistake in column_sum",
    .storage = HB_STORAGE(HB_F32),
    .add = my_add,
    .column_sum = my_column_sum,
};
