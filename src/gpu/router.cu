#include "gpu/gpu.h"

extern "C" {
#include "ops/router.h"
}

/* A warp a token, WARPS tokens a block. Lane l has experts l, l + 32, ...; what it
 * keeps in memory only it reads again. */
enum { WARPS = 4 };

/* Does a rank before b? The larger first; NaN last. */
static __device__ inline bool ranks_before(float a, float b)
{
    return a > b || (b != b && a == a);
}

/* A candidate of the choice: equals stay in the order of their ids. */
struct candidate {
    float key;
    int id; /* -1: none */

    __device__ inline bool before(const struct candidate &other) const
    {
        if (id < 0 || other.id < 0)
            return id >= 0;
        return ranks_before(key, other.key) || (!ranks_before(other.key, key) && id < other.id);
    }
};

struct router {
    float *probs; /* of this token, [E] */
    const float *selection_bias;
    int E, lane;

    __device__ inline struct candidate expert(int i) const
    {
        struct candidate c = {selection_bias ? probs[i] + selection_bias[i] : probs[i], i};
        return c;
    }

    /* The best of those that rank after `last`; of all if it is none. */
    __device__ inline struct candidate next(const struct candidate &last) const
    {
        struct candidate best = {0.0f, -1};
        for (int i = lane; i < E; i += 32) {
            struct candidate c = expert(i);
            if ((last.id < 0 || last.before(c)) && c.before(best))
                best = c;
        }
        for (int s = 16; s > 0; s /= 2) {
            struct candidate other = {__shfl_xor_sync(WARP, best.key, s), __shfl_xor_sync(WARP, best.id, s)};
            if (other.before(best))
                best = other;
        }
        return best;
    }

    /* probs from logits; returns the log-sum-exp. */
    __device__ inline float softmax(const float *logits, const float *bias)
    {
        float m = -INFINITY;
        for (int i = lane; i < E; i += 32) {
            float l = bias ? logits[i] + bias[i] : logits[i];
            m = larger(l, m);
            probs[i] = l;
        }
        for (int s = 16; s > 0; s /= 2)
            m = larger(__shfl_xor_sync(WARP, m, s), m);
        float sum = 0.0f;
        for (int i = lane; i < E; i += 32) {
            float e = hb_expf(probs[i] - m);
            sum = sum + e;
            probs[i] = e;
        }
        sum = lanes_sum(sum);
        for (int i = lane; i < E; i += 32)
            probs[i] = probs[i] / sum;
        return m + hb_logf(sum);
    }
};

static __global__ void forward(const float *logits, const float *bias, const float *selection_bias,
                               bool renormalise, float *probs, float *lse, int32_t *index, float *weight,
                               int64_t *counts, int64_t n, int E, int K)
{
    int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)(threadIdx.x % 32);
    bool real = t < n;
    struct router router = {probs + t * E, selection_bias, real ? E : 0, lane};
    float l = router.softmax(logits + t * E, bias);
    if (real && lane == 0)
        lse[t] = l;
    __syncwarp(); /* the lane of slot j reads the probability of an expert of another lane */
    float sum = 0.0f;
    struct candidate last = {0.0f, -1};
    for (int j = 0; j < K; j++) {
        last = router.next(last);
        if (!real || lane != j % 32)
            continue;
        float p = router.probs[last.id];
        sum = sum + p;
        index[t * K + j] = last.id;
        weight[t * K + j] = p;
        atomicAdd(reinterpret_cast<unsigned long long *>(&counts[last.id]), 1ull);
    }
    sum = lanes_sum(sum);
    for (int j = lane; j < K && real && renormalise; j += 32)
        weight[t * K + j] = weight[t * K + j] / sum;
}

struct router_gradient {
    const float *probs, *weight, *dweight; /* of this token */
    const int32_t *index;
    int K;
    bool renormalise;

    /* The gradient through the weights at expert i; sum is that of dweight times weight. */
    __device__ inline float through_weights(int i, float sum) const
    {
        for (int j = 0; j < K; j++)
            if (index[j] == i)
                return weight[j] * (dweight[j] - sum);
        return renormalise ? 0.0f : probs[i] * (0.0f - sum);
    }
};

static __global__ void backward(const float *probs, const float *lse, const int32_t *index,
                                const float *weight, const float *dweight, bool renormalise,
                                const float *fraction, float a, float z, float *dlogits, int64_t n, int E_all,
                                int K_all)
{
    int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)(threadIdx.x % 32);
    int E = t < n ? E_all : 0, K = t < n ? K_all : 0;
    struct router_gradient token = {
        probs + t * E_all, weight + t * K_all, dweight + t * K_all, index + t * K_all, K, renormalise};
    float sum = 0.0f, mean = 0.0f;
    for (int j = lane; j < K; j += 32)
        sum = fmaf(token.dweight[j], token.weight[j], sum);
    sum = lanes_sum(sum);
    for (int i = lane; fraction && i < E; i += 32)
        mean = fmaf(fraction[i], token.probs[i], mean);
    mean = lanes_sum(mean);
    for (int i = lane; i < E; i += 32) {
        float p = token.probs[i], d = token.through_weights(i, sum);
        if (fraction)
            d = fmaf(a, p * (fraction[i] - mean), d);
        if (z != 0.0f)
            d = fmaf(z * lse[t], p, d);
        dlogits[t * E + i] = d;
    }
}

extern "C" hb_status HB_GPU(router_forward)(struct hb_context *context,
                                            const struct hb_router_forward_args *args)
{
    int64_t n = args->probs.shape[0], E = args->probs.shape[1], K = args->index.shape[1];
    return launch("router_forward", forward, blocks_for(n, WARPS), 32 * WARPS, 0, gpu_stream_of(context),
                  f32_of(&args->logits), f32_of(&args->bias), f32_of(&args->selection_bias),
                  args->renormalise, f32_of(&args->probs), f32_of(&args->lse), i32_of(&args->index),
                  f32_of(&args->weight), i64_of(&args->counts), n, (int)E, (int)K);
}

extern "C" hb_status HB_GPU(router_backward)(struct hb_context *context,
                                             const struct hb_router_backward_args *args)
{
    int64_t n = args->probs.shape[0], E = args->probs.shape[1], K = args->index.shape[1];
    bool aux = args->fraction.data != NULL;
    float a = aux ? (float)((double)args->aux_factor * (double)E / (double)args->aux_rows) : 0.0f;
    float z = n ? (float)(2 * (double)args->z_factor / (double)n) : 0.0f;
    return launch("router_backward", backward, blocks_for(n, WARPS), 32 * WARPS, 0, gpu_stream_of(context),
                  f32_of(&args->probs), f32_of(&args->lse), i32_of(&args->index), f32_of(&args->weight),
                  f32_of(&args->dweight), args->renormalise, f32_of(&args->fraction), a, z,
                  f32_of(&args->dlogits), n, (int)E, (int)K);
}
