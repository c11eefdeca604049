#include "ops/router.h"

#include <string.h>

#include "core/math.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

static void softmax(const float *logits, const float *bias, int64_t E, float *probs, float *lse)
{
    if (bias)
        for (int64_t i = 0; i < E; i++)
            probs[i] = logits[i] + bias[i];
    else
        memcpy(probs, logits, (size_t)E * sizeof *probs);
    float m = hb_row_max(probs, E);
    for (int64_t i = 0; i < E; i++)
        probs[i] = hb_expf(probs[i] - m);
    float s = hb_row_sum(probs, E);
    for (int64_t i = 0; i < E; i++)
        probs[i] = probs[i] / s;
    *lse = m + hb_logf(s);
}

/* The larger first; NaN last; equals stay in the order of their ids. */
static inline bool ranks_before(float a, float b)
{
    return a > b || (b != b && a == a);
}

/* The K best of key, best first; their keys go to `best`. */
static void choose(const float *key, int64_t E, int64_t K, int32_t *index, float *best)
{
    int64_t chosen = 0;
    for (int64_t i = 0; i < E; i++) {
        if (chosen == K && !ranks_before(key[i], best[K - 1]))
            continue;
        int64_t j = chosen < K ? chosen++ : K - 1;
        for (; j > 0 && ranks_before(key[i], best[j - 1]); j--) {
            best[j] = best[j - 1];
            index[j] = index[j - 1];
        }
        best[j] = key[i];
        index[j] = (int32_t)i;
    }
}

/* Tokens [begin, end); `counts` and `key` (E floats) are this thread's own. */
static void forward_tokens(const struct hb_router_forward_args *args, int64_t begin, int64_t end, int64_t *counts,
                           float *key)
{
    int64_t E = args->probs.shape[1], K = args->index.shape[1];
    const float *logits = args->logits.data, *selection_bias = args->selection_bias.data;
    for (int64_t t = begin; t < end; t++) {
        float *probs = (float *)args->probs.data + t * E, *weight = (float *)args->weight.data + t * K;
        int32_t *index = (int32_t *)args->index.data + t * K;
        softmax(logits + t * E, args->bias.data, E, probs, (float *)args->lse.data + t);
        if (selection_bias)
            for (int64_t i = 0; i < E; i++)
                key[i] = probs[i] + selection_bias[i];
        choose(selection_bias ? key : probs, E, K, index, weight);
        for (int64_t j = 0; j < K; j++) {
            weight[j] = probs[index[j]];
            counts[index[j]]++;
        }
        if (!args->renormalise)
            continue;
        float s = hb_row_sum(weight, K);
        for (int64_t j = 0; j < K; j++)
            weight[j] = weight[j] / s;
    }
}

hb_status HB_CPU(router_forward)(struct hb_context *context, const struct hb_router_forward_args *args)
{
    int64_t n = args->probs.shape[0], E = args->probs.shape[1];
    int parts = hb_row_threads(context, n * E);
    /* per part: counts, then keys; apart by whole cache lines */
    int64_t stride = ((int64_t)(sizeof(int64_t) + sizeof(float)) * E + 127) / 64 * 64;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(parts * stride), &workspace));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int64_t *own = (int64_t *)(void *)((char *)workspace + part * stride);
        memset(own, 0, (size_t)E * sizeof *own);
        forward_tokens(args, n * part / parts, n * (part + 1) / parts, own, (float *)(own + E));
    }
    int64_t *counts = args->counts.data;
    for (int part = 0; part < parts; part++) {
        const int64_t *own = (const int64_t *)(void *)((char *)workspace + part * stride);
        for (int64_t i = 0; i < E; i++)
            counts[i] += own[i];
    }
    return HB_OK;
}

static void backward_weights(const float *probs, const int32_t *index, const float *weight, const float *dweight,
                             bool renormalise, int64_t E, int64_t K, float *dlogits)
{
    float s = hb_row_dot(dweight, weight, K);
    if (renormalise)
        memset(dlogits, 0, (size_t)E * sizeof *dlogits);
    else
        for (int64_t i = 0; i < E; i++)
            dlogits[i] = probs[i] * (0.0f - s);
    for (int64_t j = 0; j < K; j++)
        dlogits[index[j]] = weight[j] * (dweight[j] - s);
}

hb_status HB_CPU(router_backward)(struct hb_context *context, const struct hb_router_backward_args *args)
{
    int64_t n = args->probs.shape[0], E = args->probs.shape[1], K = args->index.shape[1];
    const float *fraction = args->fraction.data, *lse = args->lse.data;
    float a = fraction ? (float)((double)args->aux_factor * (double)E / (double)args->aux_rows) : 0;
    float z = n ? (float)(2 * (double)args->z_factor / (double)n) : 0;
    int threads = hb_row_threads(context, n * E);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++) {
        const float *probs = (const float *)args->probs.data + t * E;
        float *dlogits = (float *)args->dlogits.data + t * E;
        backward_weights(probs, (const int32_t *)args->index.data + t * K, (const float *)args->weight.data + t * K,
                         (const float *)args->dweight.data + t * K, args->renormalise, E, K, dlogits);
        if (fraction) {
            float mean = hb_row_dot(fraction, probs, E);
            for (int64_t i = 0; i < E; i++)
                dlogits[i] = fmaf(a, probs[i] * (fraction[i] - mean), dlogits[i]);
        }
        if (args->z_factor != 0) {
            float zl = z * lse[t];
            for (int64_t i = 0; i < E; i++)
                dlogits[i] = fmaf(zl, probs[i], dlogits[i]);
        }
    }
    return HB_OK;
}
