#include "gpu/columns.h"

extern "C" {
#include "ops/column_sum.h"
}

/* Rule 4: the rows of a chunk in order, starting at its first one. */
struct rows_sum {
    struct array x;
    int64_t D;

    __device__ inline float chunk(int64_t begin, int64_t end, int64_t i) const
    {
        float sum = -0.0f, value[ROWS_AT_ONCE]; /* -0 + x is x */
        for (int64_t t = begin; t < end; t += ROWS_AT_ONCE) {
            read_rows(value, x, t, end, D, i);
            UNROLL
            for (int e = 0; e < ROWS_AT_ONCE; e++)
                if (t + e < end)
                    sum = sum + value[e];
        }
        return sum;
    }
};

static __global__ void sum_rows(struct array x, int64_t n, int64_t D, float *chunks)
{
    struct rows_sum sums = {x, D};
    sum_chunks(sums, n, D, chunks);
}

extern "C" hb_status HB_GPU(column_sum)(struct hb_context *context, const struct hb_column_sum_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    bool add = args->epilogue == HB_ADD;
    if (n == 0 && add)
        return HB_OK;
    void *chunks;
    HB_TRY(gpu_workspace(context, chunk_bytes(n, D), &chunks));
    HB_TRY(launch("column_sum", sum_rows, chunk_grid(n, D), COLUMNS, 0, gpu_stream_of(context),
                  array_of(&args->x), n, D, static_cast<float *>(chunks)));
    return launch("column_sum", add_chunks, blocks_for(D, COLUMNS), COLUMNS, 0, gpu_stream_of(context),
                  static_cast<const float *>(chunks), chunks_of(n), D, array_of(&args->out), add);
}
