#include "ops/cross_entropy.h"

#include "ref/ref.h"

/* Rule 5: a NaN makes the maximum NaN. */
static real row_max(const struct hb_tensor *logits, int64_t begin, int64_t V)
{
    real m = -INFINITY;
    for (int64_t i = 0; i < V; i++) {
        real x = load(logits, begin + i);
        m = x > m || isnan(x) ? x : m;
    }
    return m;
}

hb_status HB_REF(cross_entropy)(struct hb_context *context, const struct hb_cross_entropy_args *args)
{
    (void)context;
    int64_t n = args->logits.shape[0], V = args->logits.shape[1];
    const int32_t *labels = args->labels.data;
    for (int64_t t = 0; t < n; t++) {
        if (labels[t] < 0) {
            store(&args->loss, t, 0);
            for (int64_t i = 0; args->gradient && i < V; i++)
                store(&args->logits, t * V + i, 0);
            continue;
        }
        real m = row_max(&args->logits, t * V, V);
        real lane[32] = {0};
        for (int64_t i = 0; i < V; i++)
            lane[i % 32] = lane[i % 32] + real_exp(load(&args->logits, t * V + i) - m);
        real s = lanes_sum(lane);
        store(&args->loss, t, (m + real_log(s)) - load(&args->logits, t * V + labels[t]));
        if (!args->gradient)
            continue;
        for (int64_t i = 0; i < V; i++) {
            real p = real_exp(load(&args->logits, t * V + i) - m) / s;
            real target = i == labels[t] ? 1 : 0;
            store(&args->logits, t * V + i, (p - target) * (real)args->factor);
        }
    }
    return HB_OK;
}
