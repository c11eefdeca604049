#include "ops/cross_entropy.h"

#include <omp.h>
#include <string.h>

#include "core/math.h"
#include "cpu/convert.h"
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

/* `buffer` has room for a row. */
static void row_of_token(const struct hb_cross_entropy_args *args, int64_t t, float *buffer)
{
    int64_t V = args->logits.shape[1];
    int32_t label = ((const int32_t *)args->labels.data)[t];
    float *loss = (float *)args->loss.data + t, *row = hb_place(&args->logits, t * V, buffer);
    if (label < 0) {
        *loss = 0.0f;
        if (args->gradient) {
            memset(row, 0, (size_t)V * sizeof *row);
            hb_write(&args->logits, t * V, V, row);
        }
        return;
    }
    (void)hb_read(&args->logits, t * V, V, row);
    if (!args->gradient) {
        *loss = row_loss(row, V, label);
        return;
    }
    *loss = row_gradient(row, V, label, args->factor);
    hb_write(&args->logits, t * V, V, row);
}

hb_status HB_CPU(cross_entropy)(struct hb_context *context, const struct hb_cross_entropy_args *args)
{
    int64_t n = args->logits.shape[0], V = args->logits.shape[1];
    int threads = hb_row_threads(context, n * V);
    float *buffers;
    int64_t stride;
    HB_TRY(hb_row_buffers(context, threads, 1, args->logits.dtype == HB_F32 ? 0 : V, &buffers, &stride));
    /* Ignored rows cost nothing without a gradient: dynamic. */
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t t = 0; t < n; t++)
        row_of_token(args, t, buffers + omp_get_thread_num() * stride);
    return HB_OK;
}
