#include "ops/balance.h"

#include "cpu/cpu.h"
#include "cpu/row.h"

/* E numbers once a layer: one thread, and no more vectors than the compiler finds. */
hb_status HB_CPU(balance_loss)(struct hb_context *context, const struct hb_balance_loss_args *args)
{
    int64_t L = args->counts.shape[0], E = args->counts.shape[1];
    const int64_t *counts = args->counts.data;
    const float *prob_sum = args->prob_sum.data;
    float *fraction = args->fraction.data;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)E * sizeof(float), &workspace));
    float *mean = workspace;
    for (int64_t i = 0; i < E; i++) {
        int64_t sum = 0;
        for (int64_t l = 0; l < L; l++)
            sum += counts[l * E + i];
        fraction[i] = (float)((double)sum / (double)args->denominator);
        mean[i] = prob_sum[i] / (float)args->rows;
    }
    *(float *)args->loss.data = (float)E * hb_row_dot(fraction, mean, E);
    return HB_OK;
}

hb_status HB_CPU(balance_bias)(struct hb_context *context, const struct hb_balance_bias_args *args)
{
    (void)context;
    int64_t E = args->counts.shape[0], total = 0;
    const int64_t *counts = args->counts.data;
    float *bias = args->bias.data;
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    for (int64_t i = 0; i < E; i++)
        total += counts[i];
    for (int64_t i = 0; i < E; i++) {
        int64_t excess = counts[i] * E - total;
        if (excess < 0)
            bias[i] = bias[i] + args->rate;
        if (excess > 0)
            bias[i] = bias[i] - args->rate;
    }
    return HB_OK;
}
