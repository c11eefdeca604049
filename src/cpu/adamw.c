#include "ops/adamw.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/hash.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Elements that are hashed at once, right after their update, while they are in L1. (xxHash is
 * compiled into this file, so that it has the vector instructions of the level.) */
enum { PIECE = 512 };

/* Returns not 0 if there is a NaN among the new parameters. */
static uint32_t update(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count)
{
    float *restrict param = (float *)args->param.data + begin;
    const float *restrict grad = (const float *)args->grad.data + begin;
    float *restrict m = (float *)args->m.data + begin;
    float *restrict v = (float *)args->v.data + begin;
    float inv_scale = args->inv_scale, keep = args->keep, step_size = args->step_size, root2 = args->root2;
    float beta1 = args->beta1, one_minus_beta1 = args->one_minus_beta1;
    float beta2 = args->beta2, one_minus_beta2 = args->one_minus_beta2, eps = args->eps;
    uint32_t nans = 0;
    for (int64_t i = 0; i < count; i++) {
        float g = (grad[i] * inv_scale) * coef;
        float mi = fmaf(beta1, m[i], one_minus_beta1 * g);
        float vi = fmaf(beta2, v[i], (one_minus_beta2 * g) * g);
        m[i] = mi;
        v[i] = vi;
        float p = fmaf(-step_size, mi / (sqrtf(vi) / root2 + eps), param[i] * keep);
        param[i] = p;
        nans |= p != p;
    }
    return nans;
}

static uint64_t update_and_hash(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count)
{
    const float *param = (const float *)args->param.data + begin;
    XXH3_state_t state;
    uint32_t nans = 0;
    XXH3_64bits_reset(&state);
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t piece = hb_at_most(count - i, PIECE);
        nans |= update(args, coef, begin + i, piece);
        XXH3_64bits_update(&state, param + i, (size_t)piece * sizeof *param);
    }
    return nans ? hb_chunk_hash(param, (size_t)count) : XXH3_64bits_digest(&state);
}

hb_status HB_CPU(adamw)(struct hb_context *context, const struct hb_adamw_args *args)
{
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    int64_t G = args->groups, n = hb_tensor_count(&args->param), each = n / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    float coef = *(const float *)args->coef.data;
    uint64_t *hash = args->chunk_hash.data;
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < G * chunks; k++) {
        int64_t first = k % chunks * HB_CHUNK, count = hb_at_most(each - first, HB_CHUNK);
        int64_t begin = k / chunks * each + first;
        if (hash)
            hash[k] = update_and_hash(args, coef, begin, count);
        else
            update(args, coef, begin, count);
    }
    return HB_OK;
}
