#include "ops/adamw.h"

#include "core/hash.h"
#include "core/philox.h"
#include "ref/ref.h"

/* Element i of a part without masters, its stream given: 32-bit word first + i decides. */
static void store_random(const struct hb_adamw_args *args, int64_t at, const struct hb_random *stream,
                         int64_t i, real x)
{
    uint32_t words[4];
    uint64_t index = (uint64_t)(args->first + i);
    hb_random_u32x4(stream, index / 4, words);
    uint16_t *param = args->param.data;
    param[at] = args->param.dtype == HB_BF16 ? hb_bf16_of_f32_random((float)x, words[index % 4])
                                             : hb_f16_of_f32_random((float)x, words[index % 4]);
}

/* Element i of a part, number `at` of all; `stream` NULL: rounded to nearest. */
static void update(const struct hb_adamw_args *args, const struct hb_random *stream, int64_t i, int64_t at,
                   real coef)
{
    real g = (load(&args->grad, at) * (real)args->inv_scale) * coef;
    real m = real_fma((real)args->beta1, load(&args->m, at), (real)args->one_minus_beta1 * g);
    real v = real_fma((real)args->beta2, load(&args->v, at), ((real)args->one_minus_beta2 * g) * g);
    real direction = m / (real_sqrt(v) / (real)args->root2 + (real)args->eps);
    real param = real_fma(-(real)args->step_size, direction, load(&args->param, at) * (real)args->keep);
    store(&args->m, at, m);
    store(&args->v, at, v);
    if (stream)
        store_random(args, at, stream, i, param);
    else
        store(&args->param, at, param);
    if (args->stored.data)
        store(&args->stored, at, param);
}

hb_status HB_REF(adamw)(struct hb_context *context, const struct hb_adamw_args *args)
{
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    int64_t G = args->groups, each = hb_tensor_count(&args->param) / G;
    const int64_t *names = args->names.data;
    real coef = load(&args->coef, 0);
    for (int64_t g = 0; g < G; g++) {
        struct hb_random stream = {{(uint32_t)args->key, (uint32_t)((uint64_t)args->key >> 32)},
                                   names ? (uint64_t)names[g] : 0};
        for (int64_t i = 0; i < each; i++)
            update(args, names ? &stream : NULL, i, g * each + i, coef);
    }
    if (!args->chunk_hash.data)
        return HB_OK;
    struct hb_digest_args digest = {.x = args->param, .groups = G, .chunk_hash = args->chunk_hash};
    return HB_REF(digest)(context, &digest);
}
