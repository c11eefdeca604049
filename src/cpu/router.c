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

/* A number whose order is the order of choice: the larger key first, NaN last,
 * equals by their ids. Above are the bits of the key, folded so that integers
 * order them as floats are ordered; below is the id, counted down. */
static inline int64_t rank_of(float key, int64_t i)
{
    int32_t bits = (int32_t)hb_bits_of_f32(key + 0.0f); /* -0 becomes +0, its equal */
    bits ^= (bits >> 31) & INT32_MAX;
    bits = key != key ? INT32_MIN : bits;
    return (int64_t)((uint64_t)bits << 32 | (UINT32_MAX - (uint32_t)i));
}

/* The K best, best first: K maxima, each taken out once found. Uses up `rank`. */
static void choose(int64_t *rank, int64_t E, int64_t K, int32_t *index)
{
    for (int64_t j = 0; j < K; j++) {
        int64_t best = INT64_MIN;
        for (int64_t i = 0; i < E; i++)
            best = rank[i] > best ? rank[i] : best;
        index[j] = (int32_t)(UINT32_MAX - (uint32_t)best);
        rank[index[j]] = INT64_MIN;
    }
}

/* Tokens [begin, end); `counts` and `rank` [E] are this thread's own. */
static void forward_tokens(const struct hb_router_forward_args *args, int64_t begin, int64_t end,
                           int64_t *counts, int64_t *rank)
{
    int64_t E = args->probs.shape[1], K = args->index.shape[1];
    const float *logits = args->logits.data, *selection_bias = args->selection_bias.data;
    for (int64_t t = begin; t < end; t++) {
        float *probs = (float *)args->probs.data + t * E, *weight = (float *)args->weight.data + t * K;
        int32_t *index = (int32_t *)args->index.data + t * K;
        softmax(logits + t * E, args->bias.data, E, probs, (float *)args->lse.data + t);
        for (int64_t i = 0; i < E; i++)
            rank[i] = rank_of(selection_bias ? probs[i] + selection_bias[i] : probs[i], i);
        choose(rank, E, K, index);
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
    int64_t stride = (2 * E + 15) / 8 * 8; /* of a part: counts, then ranks; in cache lines of its own */
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(parts * stride) * sizeof(int64_t), &workspace));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int64_t *own = (int64_t *)workspace + part * stride;
        memset(own, 0, (size_t)E * sizeof *own);
        forward_tokens(args, n * part / parts, n * (part + 1) / parts, own, own + E);
    }
    int64_t *counts = args->counts.data;
    for (int part = 0; part < parts; part++) {
        const int64_t *own = (const int64_t *)workspace + part * stride;
        for (int64_t i = 0; i < E; i++)
            counts[i] += own[i];
    }
    return HB_OK;
}

static void backward_weights(const float *probs, const int32_t *index, const float *weight,
                             const float *dweight, bool renormalise, int64_t E, int64_t K, float *dlogits)
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
        backward_weights(probs, (const int32_t *)args->index.data + t * K,
                         (const float *)args->weight.data + t * K, (const float *)args->dweight.data + t * K,
                         args->renormalise, E, K, dlogits);
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
