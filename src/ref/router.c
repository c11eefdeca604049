#include "ops/router.h"

#include "ref/ref.h"

/* Does a rank before b? The larger first; NaN last; equals stay in the order of their ids. */
static bool ranks_before(real a, real b)
{
    return a > b || (b != b && a == a);
}

static void softmax(const struct hb_router_forward_args *args, int64_t t)
{
    int64_t E = args->logits.shape[1];
    real m = 0;
    for (int64_t i = 0; i < E; i++) {
        real l = load(&args->logits, t * E + i);
        if (args->bias.data)
            l = l + load(&args->bias, i);
        if (i == 0 || l > m || l != l)
            m = l;
        store(&args->probs, t * E + i, l);
    }
    real lane[32] = {0};
    for (int64_t i = 0; i < E; i++) {
        real e = real_exp(load(&args->probs, t * E + i) - m);
        lane[i % 32] = lane[i % 32] + e;
        store(&args->probs, t * E + i, e);
    }
    real s = lanes_sum(lane);
    for (int64_t i = 0; i < E; i++)
        store(&args->probs, t * E + i, load(&args->probs, t * E + i) / s);
    store(&args->lse, t, m + real_log(s));
}

static real rank_key(const struct hb_router_forward_args *args, int64_t t, int64_t i)
{
    real p = load(&args->probs, t * args->probs.shape[1] + i);
    return args->selection_bias.data ? p + load(&args->selection_bias, i) : p;
}

/* The K best experts of token t, best first: each is put before those that rank after it. */
static void choose(const struct hb_router_forward_args *args, int64_t t)
{
    int64_t E = args->probs.shape[1], K = args->index.shape[1];
    int32_t *index = (int32_t *)args->index.data + t * K;
    int64_t chosen = 0;
    for (int64_t i = 0; i < E; i++) {
        int64_t j = chosen;
        while (j > 0 && ranks_before(rank_key(args, t, i), rank_key(args, t, index[j - 1])))
            j--;
        if (j == K)
            continue;
        if (chosen < K)
            chosen++;
        for (int64_t k = chosen - 1; k > j; k--)
            index[k] = index[k - 1];
        index[j] = (int32_t)i;
    }
}

hb_status HB_REF(router_forward)(struct hb_context *context, const struct hb_router_forward_args *args)
{
    (void)context;
    int64_t n = args->probs.shape[0], E = args->probs.shape[1], K = args->index.shape[1];
    int64_t *counts = args->counts.data;
    for (int64_t t = 0; t < n; t++) {
        softmax(args, t);
        choose(args, t);
        const int32_t *index = (const int32_t *)args->index.data + t * K;
        real lane[32] = {0};
        for (int64_t j = 0; j < K; j++) {
            real p = load(&args->probs, t * E + index[j]);
            lane[j % 32] = lane[j % 32] + p;
            store(&args->weight, t * K + j, p);
            counts[index[j]]++;
        }
        if (!args->renormalise)
            continue;
        real s = lanes_sum(lane);
        for (int64_t j = 0; j < K; j++)
            store(&args->weight, t * K + j, load(&args->weight, t * K + j) / s);
    }
    return HB_OK;
}

/* The gradient through the weights of token t. */
static void backward_weights(const struct hb_router_backward_args *args, int64_t t)
{
    int64_t E = args->probs.shape[1], K = args->index.shape[1];
    const int32_t *index = (const int32_t *)args->index.data + t * K;
    real lane[32] = {0};
    for (int64_t j = 0; j < K; j++) {
        real dw = load(&args->dweight, t * K + j);
        lane[j % 32] = real_fma(dw, load(&args->weight, t * K + j), lane[j % 32]);
    }
    real s = lanes_sum(lane);
    for (int64_t i = 0; i < E; i++)
        store(&args->dlogits, t * E + i, args->renormalise ? 0 : load(&args->probs, t * E + i) * (0 - s));
    for (int64_t j = 0; j < K; j++)
        store(&args->dlogits, t * E + index[j],
              load(&args->weight, t * K + j) * (load(&args->dweight, t * K + j) - s));
}

hb_status HB_REF(router_backward)(struct hb_context *context, const struct hb_router_backward_args *args)
{
    (void)context;
    int64_t n = args->probs.shape[0], E = args->probs.shape[1];
    bool aux = args->fraction.data != NULL;
    real a = aux ? (real)((double)args->aux_factor * (double)E / (double)args->aux_rows) : 0;
    real z = n ? (real)(2 * (double)args->z_factor / (double)n) : 0;
    for (int64_t t = 0; t < n; t++) {
        backward_weights(args, t);
        real lane[32] = {0};
        for (int64_t i = 0; aux && i < E; i++)
            lane[i % 32] = real_fma(load(&args->fraction, i), load(&args->probs, t * E + i), lane[i % 32]);
        real mean = lanes_sum(lane);
        real zl = z * load(&args->lse, t);
        for (int64_t i = 0; i < E; i++) {
            real p = load(&args->probs, t * E + i), d = load(&args->dlogits, t * E + i);
            if (aux)
                d = real_fma(a, p * (load(&args->fraction, i) - mean), d);
            if (args->z_factor != 0)
                d = real_fma(zl, p, d);
            store(&args->dlogits, t * E + i, d);
        }
    }
    return HB_OK;
}
