#include "ops/sum.h"

#include "core/hash.h"
#include "core/tree.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

static double chunk_squares(const float *x, int64_t n, float factor)
{
    double lane[HB_LANES] = {0};
    int64_t i = 0;
    for (; i + HB_LANES <= n; i += HB_LANES)
        for (int l = 0; l < HB_LANES; l++) {
            double v = (double)(x[i + l] * factor);
            lane[l] = fma(v, v, lane[l]);
        }
    for (int l = 0; i + l < n; l++) {
        double v = (double)(x[i + l] * factor);
        lane[l] = fma(v, v, lane[l]);
    }
    for (int s = HB_LANES / 2; s > 0; s /= 2)
        for (int l = 0; l < s; l++)
            lane[l] = lane[l] + lane[l + s];
    return lane[0];
}

static double chunk_plain(const float *x, int64_t n, float factor)
{
    double lane[HB_LANES] = {0};
    int64_t i = 0;
    for (; i + HB_LANES <= n; i += HB_LANES)
        for (int l = 0; l < HB_LANES; l++)
            lane[l] = lane[l] + (double)(x[i + l] * factor);
    for (int l = 0; i + l < n; l++)
        lane[l] = lane[l] + (double)(x[i + l] * factor);
    for (int s = HB_LANES / 2; s > 0; s /= 2)
        for (int l = 0; l < s; l++)
            lane[l] = lane[l] + lane[l + s];
    return lane[0];
}

/* Only asked about chunks whose sum is not finite: an element that is not makes it so. */
static int64_t count_nonfinite(const float *x, int64_t n)
{
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += (hb_bits_of_f32(x[i]) & 0x7f800000u) == 0x7f800000u;
    return count;
}

/* Numbers with 0 < |x| < bound, by their bits without the sign; zero minus 1 is the largest there is. */
static int64_t count_small(const float *x, int64_t n, float bound)
{
    uint32_t below = hb_bits_of_f32(bound) - 1, count = 0;
    for (int64_t i = 0; i < n; i++)
        count += (hb_bits_of_f32(x[i]) & 0x7fffffffu) - 1 < below;
    return count;
}

hb_status HB_CPU(sum)(struct hb_context *context, const struct hb_sum_args *args)
{
    int64_t G = args->out.shape[0], n = hb_tensor_count(&args->x), each = n / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(G * chunks) * sizeof(double), &workspace));
    double *sums = workspace, *out = args->out.data;
    int64_t *extremes = args->extremes.data, overflow = 0, underflow = 0;
    float bound = (float)hb_sum_underflow_bound(args);
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : overflow, underflow)
    for (int64_t k = 0; k < G * chunks; k++) {
        int64_t begin = k % chunks * HB_CHUNK, count = hb_at_most(each - begin, HB_CHUNK);
        float buffer[HB_CHUNK];
        const float *x = hb_read(&args->x, k / chunks * each + begin, count, buffer);
        sums[k] = args->squares ? chunk_squares(x, count, args->factor) : chunk_plain(x, count, args->factor);
        if (!isfinite(sums[k]))
            overflow += count_nonfinite(x, count);
        if (extremes)
            underflow += count_small(x, count, bound);
    }
    if (args->found.data && overflow)
        *(int32_t *)args->found.data = 1;
    if (extremes) {
        extremes[0] += overflow;
        extremes[1] += underflow;
    }
    for (int64_t g = 0; g < G; g++)
        out[g] = hb_tree_sum_f64(sums + g * chunks, chunks);
    return HB_OK;
}
