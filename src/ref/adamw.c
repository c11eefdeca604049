#include "ops/adamw.h"

#include "core/hash.h"
#include "ref/ref.h"

static void update(const struct hb_adamw_args *args, int64_t i, real coef)
{
    real g = (load(&args->grad, i) * (real)args->inv_scale) * coef;
    real m = real_fma((real)args->beta1, load(&args->m, i), (real)args->one_minus_beta1 * g);
    real v = real_fma((real)args->beta2, load(&args->v, i), ((real)args->one_minus_beta2 * g) * g);
    real direction = m / (real_sqrt(v) / (real)args->root2 + (real)args->eps);
    real param = real_fma(-(real)args->step_size, direction, load(&args->param, i) * (real)args->keep);
    store(&args->m, i, m);
    store(&args->v, i, v);
    store(&args->param, i, param);
}

hb_status HB_REF(adamw)(struct hb_context *context, const struct hb_adamw_args *args)
{
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    int64_t n = hb_tensor_count(&args->param);
    real coef = load(&args->coef, 0);
    for (int64_t i = 0; i < n; i++)
        update(args, i, coef);
    if (!args->chunk_hash.data)
        return HB_OK;
    struct hb_digest_args digest = {.x = args->param, .groups = args->groups, .chunk_hash = args->chunk_hash};
    return HB_REF(digest)(context, &digest);
}
