#include "ops/sum.h"

#include "core/hash.h"
#include "ref/extremes.h"

/* Elements [begin, end), at most a chunk, by rule 3 in fp64. */
static double chunk_sum(const struct hb_sum_args *args, int64_t begin, int64_t end)
{
    double lane[32] = {0};
    for (int64_t i = begin; i < end; i++) {
        double v = (double)(load(&args->x, i) * (real)args->factor);
        int64_t l = (i - begin) % 32;
        lane[l] = args->squares ? fma(v, v, lane[l]) : lane[l] + v;
    }
    for (int s = 16; s > 0; s /= 2)
        for (int l = 0; l < s; l++)
            lane[l] = lane[l] + lane[l + s];
    return lane[0];
}

hb_status HB_REF(sum)(struct hb_context *context, const struct hb_sum_args *args)
{
    int64_t G = args->out.shape[0], each = hb_tensor_count(&args->x) / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)chunks * sizeof(double), &workspace));
    double *sums = workspace, *out = args->out.data;
    for (int64_t g = 0; g < G; g++) {
        for (int64_t c = 0; c < chunks; c++) {
            int64_t begin = c * HB_CHUNK, end = begin + HB_CHUNK < each ? begin + HB_CHUNK : each;
            sums[c] = chunk_sum(args, g * each + begin, g * each + end);
        }
        out[g] = hb_tree_sum_f64(sums, chunks);
    }
    HB_REF(find_extremes)(&args->x, hb_sum_underflow_bound(args), args->found, args->extremes);
    return HB_OK;
}
