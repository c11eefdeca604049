#include "ops/cross_entropy.h"

#include <string.h>

#include "core/math.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Row sum of exp(x - m) (rule 3); leaves the terms in `e`, which may be x. */
static float row_exp(const float *x, float m, int64_t V, float *e)
{
    float lane[HB_LANES] = {0};
    int64_t i = 0;
    for (; i + HB_LANES <= V; i += HB_LANES) {
#pragma omp simd
        for (int l = 0; l < HB_LANES; l++) {
            float term = hb_expf(x[i + l] - m);
            e[i + l] = term;
            lane[l] = lane[l] + term;
        }
    }
    float last[HB_LANES];
    memcpy(last, lane, sizeof last);
    for (int l = 0; i + l < V; l++) {
        e[i + l] = hb_expf(x[i + l] - m);
        last[l] = last[l] + e[i + l];
    }
    return hb_lanes_sum(hb_lanes_load(last));
}

/* The same sum where nobody wants the terms. */
static float row_exp_sum(const float *x, float m, int64_t V)
{
    float lane[HB_LANES] = {0};
    int64_t i = 0;
    for (; i + HB_LANES <= V; i += HB_LANES) {
#pragma omp simd
        for (int l = 0; l < HB_LANES; l++)
            lane[l] = lane[l] + hb_expf(x[i + l] - m);
    }
    float last[HB_LANES];
    memcpy(last, lane, sizeof last);
    for (int l = 0; i + l < V; l++)
        last[l] = last[l] + hb_expf(x[i + l] - m);
    return hb_lanes_sum(hb_lanes_load(last));
}

static float row_loss(const float *logits, int64_t V, int32_t label)
{
    float m = hb_row_max(logits, V);
    return (m + hb_logf(row_exp_sum(logits, m, V))) - logits[label];
}

/* The exponentials wait in the row itself for their sum: a row is in cache, and
 * to load one costs less than to compute it again. */
static float row_gradient(float *logits, int64_t V, int32_t label, float factor)
{
    float m = hb_row_max(logits, V), target = logits[label];
    float s = row_exp(logits, m, V, logits);
    float p = logits[label] / s;
#pragma omp simd
    for (int64_t i = 0; i < V; i++)
        logits[i] = (logits[i] / s) * factor;
    logits[label] = (p - 1.0f) * factor;
    return (m + hb_logf(s)) - target;
}

hb_status HB_CPU(cross_entropy)(struct hb_context *context, const struct hb_cross_entropy_args *args)
{
    int64_t n = args->logits.shape[0], V = args->logits.shape[1];
    float *logits = args->logits.data, *loss = args->loss.data, factor = args->factor;
    const int32_t *labels = args->labels.data;
    bool gradient = args->gradient;
    /* Ignored rows cost nothing without a gradient: dynamic. */
#pragma omp parallel for num_threads(hb_row_threads(context, n *V)) schedule(dynamic, 1)
    for (int64_t t = 0; t < n; t++) {
        float *row = logits + t * V;
        if (labels[t] >= 0) {
            loss[t] = gradient ? row_gradient(row, V, labels[t], factor) : row_loss(row, V, labels[t]);
            continue;
        }
        loss[t] = 0.0f;
        if (gradient)
            memset(row, 0, (size_t)V * sizeof *row);
    }
    return HB_OK;
}
