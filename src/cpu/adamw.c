#include "ops/adamw.h"

#include "core/hash.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

static void update(const struct hb_adamw_args *args, float coef, int64_t begin, int64_t count)
{
    float *restrict param = (float *)args->param.data + begin;
    const float *restrict grad = (const float *)args->grad.data + begin;
    float *restrict m = (float *)args->m.data + begin;
    float *restrict v = (float *)args->v.data + begin;
    float inv_scale = args->inv_scale, keep = args->keep, step_size = args->step_size, root2 = args->root2;
    float beta1 = args->beta1, one_minus_beta1 = args->one_minus_beta1;
    float beta2 = args->beta2, one_minus_beta2 = args->one_minus_beta2, eps = args->eps;
    for (int64_t i = 0; i < count; i++) {
        float g = (grad[i] * inv_scale) * coef;
        float mi = fmaf(beta1, m[i], one_minus_beta1 * g);
        float vi = fmaf(beta2, v[i], (one_minus_beta2 * g) * g);
        m[i] = mi;
        v[i] = vi;
        param[i] = fmaf(-step_size, mi / (sqrtf(vi) / root2 + eps), param[i] * keep);
    }
}

hb_status HB_CPU(adamw)(struct hb_context *context, const struct hb_adamw_args *args)
{
    if (*(const int32_t *)args->found.data)
        return HB_OK;
    int64_t G = args->groups, n = hb_tensor_count(&args->param), each = n / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    float coef = *(const float *)args->coef.data;
    const float *param = args->param.data;
    uint64_t *hash = args->chunk_hash.data;
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < G * chunks; k++) {
        int64_t first = k % chunks * HB_CHUNK, count = each - first < HB_CHUNK ? each - first : HB_CHUNK;
        int64_t begin = k / chunks * each + first;
        update(args, coef, begin, count);
        if (hash)
            hash[k] = hb_chunk_hash(param + begin, (size_t)count);
    }
    return HB_OK;
}
