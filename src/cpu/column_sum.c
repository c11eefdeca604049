#include "ops/column_sum.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Rows [begin, end), columns from `column` on. */
static void sum_chunk(const struct hb_tensor *x, int64_t begin, int64_t end, int64_t column, int64_t width,
                      float *sum)
{
    int64_t D = x->shape[1];
    float buffer[HB_COLUMNS];
    hb_widen(x->dtype, x->data, begin * D + column, width, sum);
    for (int64_t t = begin + 1; t < end; t++) {
        const float *row = hb_read(x, t * D + column, width, buffer);
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            sum[i] = sum[i] + row[i];
    }
}

hb_status HB_CPU(column_sum)(struct hb_context *context, const struct hb_column_sum_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    float *out = args->out.data;
    if (n == 0) {
        if (args->epilogue == HB_STORE)
            memset(out, 0, (size_t)D * sizeof *out);
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
                sum_chunk(&args->x, row, hb_at_most(n, row + HB_CHUNK_ROWS), column,
                          hb_at_most(D - column, block), sums + c * D + column);
            }
#pragma omp for schedule(static)
        for (int64_t column = 0; column < D; column += HB_FOLD_BLOCK)
            hb_columns_finish(sums + column, chunks, D, hb_at_most(D - column, HB_FOLD_BLOCK), args->epilogue,
                              out + column);
    }
    return HB_OK;
}
