#include "ops/balance.h"

#include "ref/ref.h"

hb_status HB_REF(balance_loss)(struct hb_context *context, const struct hb_balance_loss_args *args)
{
    (void)context;
    int64_t L = args->counts.shape[0], E = args->counts.shape[1];
    const int64_t *counts = args->counts.data;
    real lane[32] = {0};
    for (int64_t i = 0; i < E; i++) {
        int64_t sum = 0;
        for (int64_t l = 0; l < L; l++)
            sum += counts[l * E + i];
        real f = (real)((double)sum / (double)args->denominator);
        real p = load(&args->prob_sum, i) / (real)args->rows;
        lane[i % 32] = real_fma(f, p, lane[i % 32]);
        store(&args->fraction, i, f);
    }
    store(&args->loss, 0, (real)E * lanes_sum(lane));
    return HB_OK;
}

hb_status HB_REF(balance_bias)(struct hb_context *context, const struct hb_balance_bias_args *args)
{
    (void)context;
    int64_t E = args->counts.shape[0], total = 0;
    const int64_t *counts = args->counts.data;
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    for (int64_t i = 0; i < E; i++)
        total += counts[i];
    for (int64_t i = 0; i < E; i++) {
        if (counts[i] * E < total)
            store(&args->bias, i, load(&args->bias, i) + (real)args->rate);
        if (counts[i] * E > total)
            store(&args->bias, i, load(&args->bias, i) - (real)args->rate);
    }
    return HB_OK;
}
