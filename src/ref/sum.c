#include "ops/sum.h"

#include "core/hash.h"
#include "ref/ref.h"

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

static void look(const struct hb_sum_args *args)
{
    real bound = (real)hb_sum_underflow_bound(args);
    int64_t n = hb_tensor_count(&args->x), overflow = 0, underflow = 0;
    for (int64_t i = 0; i < n; i++) {
        real x = load(&args->x, i), size = x < 0 ? -x : x;
        overflow += !isfinite(x);
        underflow += size > 0 && size < bound;
    }
    if (args->found.data && overflow)
        *(int32_t *)args->found.data = 1;
    int64_t *extremes = args->extremes.data;
    if (extremes) {
        extremes[0] += overflow;
        extremes[1] += underflow;
    }
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
    look(args);
    return HB_OK;
}
