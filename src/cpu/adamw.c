#include "ops/adamw.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/hash.h"
#include "core/philox.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Elements that are hashed at once, right after their update, while they are in L1. (xxHash is
 * compiled into this file, so that it has the vector instructions of the level.) */
enum { PIECE = 512 };

/* `count` elements at most a piece. Returns not 0 if there is a NaN among the new parameters. */
static uint32_t step(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count,
                     const float *grad, float *param)
{
    float *restrict m = (float *)args->m.data + begin;
    float *restrict v = (float *)args->v.data + begin;
    float inv_scale = args->inv_scale, keep = args->keep, step_size = args->step_size, root2 = args->root2;
    float beta1 = args->beta1, one_minus_beta1 = args->one_minus_beta1;
    float beta2 = args->beta2, one_minus_beta2 = args->one_minus_beta2, eps = args->eps;
    uint32_t nans = 0;
#pragma omp simd reduction(| : nans)
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

/* Rounds up or down as random bits say: element i takes word `index` + i of the stream. */
static void narrow_random(enum hb_dtype dtype, const float *from, int64_t count,
                          const struct hb_random *stream, uint64_t index, uint16_t *to)
{
    uint32_t words[4];
    for (int64_t i = 0; i < count; i++, index++) {
        if (i == 0 || index % 4 == 0)
            hb_random_u32x4(stream, index / 4, words);
        to[i] = dtype == HB_BF16 ? hb_bf16_of_f32_random(from[i], words[index % 4])
                                 : hb_f16_of_f32_random(from[i], words[index % 4]);
    }
}

/* Rounds the new values of weights without masters, and makes `param` what they stand for. */
static void round_weights(const struct hb_adamw_args *args, int64_t begin, int64_t count, float *param)
{
    int64_t each = hb_tensor_count(&args->param) / args->groups, group = begin / each;
    const int64_t *names = args->names.data;
    if (names) {
        struct hb_random stream = {{(uint32_t)args->key, (uint32_t)((uint64_t)args->key >> 32)},
                                   (uint64_t)names[group]};
        narrow_random(args->param.dtype, param, count, &stream,
                      (uint64_t)(args->first + begin - group * each), (uint16_t *)args->param.data + begin);
    } else {
        hb_narrow(args->param.dtype, param, count, args->param.data, begin);
    }
    hb_widen(args->param.dtype, args->param.data, begin, count, param);
}

/* A piece; the new values come back, in memory or in `room`. */
static const float *update(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count,
                           float *room, uint32_t *nans)
{
    float buffer[PIECE], *param = hb_place(&args->param, begin, room);
    (void)hb_read(&args->param, begin, count, param);
    *nans |= step(args, coef, begin, count, hb_read(&args->grad, begin, count, buffer), param);
    if (args->param.dtype != HB_F32)
        round_weights(args, begin, count, param);
    if (args->stored.data)
        hb_narrow(args->stored.dtype, param, count, args->stored.data, begin);
    return param;
}

/* A chunk; its hash if one is wanted. */
static uint64_t update_chunk(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count,
                             bool hash)
{
    XXH3_state_t state;
    uint32_t nans = 0;
    float room[PIECE], chunk[HB_CHUNK];
    if (hash)
        XXH3_64bits_reset(&state);
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t piece = hb_at_most(count - i, PIECE);
        const float *param = update(args, coef, begin + i, piece, room, &nans);
        if (hash)
            XXH3_64bits_update(&state, param, (size_t)piece * sizeof *param);
    }
    if (!hash)
        return 0;
    return nans ? hb_chunk_hash(hb_read(&args->param, begin, count, chunk), (size_t)count)
                : XXH3_64bits_digest(&state);
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
        uint64_t value = update_chunk(args, coef, begin, count, hash != NULL);
        if (hash)
            hash[k] = value;
    }
    return HB_OK;
}
