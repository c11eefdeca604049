#include "gpu/hash.h"
#include "gpu/strip.h"

extern "C" {
#include "core/philox_cipher.h"
#include "ops/adamw.h"
}

struct adamw {
    struct array param, grad, m, v, stored; /* stored.data NULL: none */
    float inv_scale, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root2, eps;
    const int64_t *names; /* NULL: round to nearest */
    int64_t key, first;   /* of the random streams */
};

/* 32-bit word `index` of the stream of core/philox.h. */
static __device__ inline uint32_t random_word(int64_t key, uint64_t subject, uint64_t index)
{
    uint64_t block = index / 4;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)subject,
                                 (uint32_t)(subject >> 32)};
    const uint32_t keys[2] = {(uint32_t)key, (uint32_t)((uint64_t)key >> 32)};
    uint32_t words[4];
    hb_philox_cipher(counter, keys, words);
    return words[index % 4];
}

/* One element; number i of part g for the random streams. `param` becomes the exact new value, and the
 * stored one, widened, is returned. */
static __device__ inline float update(const struct adamw &a, int64_t g, int64_t i, float coef, float grad,
                                      float &m, float &v, float &param)
{
    float d = (grad * a.inv_scale) * coef;
    m = fmaf(a.beta1, m, a.one_minus_beta1 * d);
    v = fmaf(a.beta2, v, (a.one_minus_beta2 * d) * d);
    float direction = m / (sqrtf(v) / a.root2 + a.eps);
    param = fmaf(-a.step_size, direction, param * a.keep);
    if (a.param.dtype == HB_F32)
        return param;
    bool bf16 = a.param.dtype == HB_BF16;
    if (!a.names)
        return bf16 ? hb_f32_of_bf16(hb_bf16_of_f32(param)) : hb_f32_of_f16(hb_f16_of_f32(param));
    uint32_t random = random_word(a.key, (uint64_t)a.names[g], (uint64_t)(a.first + i));
    return bf16 ? hb_f32_of_bf16(hb_bf16_of_f32_random(param, random))
                : hb_f32_of_f16(hb_f16_of_f32_random(param, random));
}

/* A block a chunk, which is hashed while it is at hand. A skipped step ends here, for whole blocks. */
static __global__ void __launch_bounds__(STRIP_THREADS, 3)
    update_chunks(struct adamw a, const float *coef, const int32_t *found, int64_t each, int64_t chunks,
                  int64_t *hash)
{
    SHARED(uint32_t, words, [HB_CHUNK]);
    SHARED(struct hash_space, space, [1]);
    if (*found)
        return;
    int64_t g = blockIdx.x / chunks, begin = blockIdx.x % chunks * HB_CHUNK;
    int count = (int)smaller(each - begin, HB_CHUNK);
    int64_t origin = g * each + begin;
    float factor = *coef;
    for (auto s = strip_of_block(count); s.has(0); s.next()) {
        float grad[AT_ONCE], m[AT_ONCE], v[AT_ONCE], param[AT_ONCE];
        read_strip(grad, a.grad, origin, s);
        read_strip(m, a.m, origin, s);
        read_strip(v, a.v, origin, s);
        read_strip(param, a.param, origin, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            grad[e] = update(a, g, begin + s.at(e), factor, grad[e], m[e], v[e], param[e]);
            if (s.has(e))
                words[s.at(e)] = hashed_bits(grad[e]);
        }
        write_strip(a.m, origin, s, m);
        write_strip(a.v, origin, s, v);
        if (a.stored.data)
            write_strip(a.stored, origin, s, param);
        write_strip(a.param, origin, s, grad); /* as it is stored already: nothing is rounded twice */
    }
    if (!hash)
        return;
    __syncthreads();
    uint64_t h = hash_chunk(words, count, space);
    if (threadIdx.x == 0)
        hash[blockIdx.x] = (int64_t)h;
}

extern "C" hb_status HB_GPU(adamw)(struct hb_context *context, const struct hb_adamw_args *args)
{
    int64_t G = args->groups, each = hb_tensor_count(&args->param) / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    struct adamw a = {array_of(&args->param),
                      array_of(&args->grad),
                      array_of(&args->m),
                      array_of(&args->v),
                      array_of(&args->stored),
                      args->inv_scale,
                      args->keep,
                      args->beta1,
                      args->one_minus_beta1,
                      args->beta2,
                      args->one_minus_beta2,
                      args->step_size,
                      args->root2,
                      args->eps,
                      i64_of(&args->names),
                      args->key,
                      args->first};
    return launch("adamw", update_chunks, (unsigned)(G * chunks), STRIP_THREADS, 0, gpu_stream_of(context), a,
                  f32_of(&args->coef), i32_of(&args->found), each, chunks, i64_of(&args->chunk_hash));
}
