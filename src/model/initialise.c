/* Initial weights: every element is a function of (seed, name, index). */
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/philox.h"
#include "model/model.h"

static void fill(float *out, int64_t count, uint64_t seed, const char *name, float spread, int threads)
{
    struct hb_random stream = hb_random_stream(seed, HB_PURPOSE_INIT, 0, hb_hash64_name(name));
    int64_t pairs = (count + 1) / 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (pairs > 8192)
    for (int64_t p = 0; p < pairs; p++) {
        double x[2];
        hb_random_normal_pair(&stream, (uint64_t)p, x);
        out[2 * p] = (float)x[0] * spread;
        if (2 * p + 1 < count)
            out[2 * p + 1] = (float)x[1] * spread;
    }
}

hb_status hb_model_initialise(struct hb_model *model, uint64_t seed)
{
    float spread = (float)model->config.initializer_range;
    for (int64_t i = 0; i < model->param_count; i++) {
        struct hb_param *p = model->params[i];
        bool matrix = p->value.rank > 1;
        bool norm = !matrix && strstr(p->name, "norm.weight") != NULL;
        int64_t count = hb_tensor_count(&p->value), part = count / p->groups;
        float *values = malloc((size_t)count * sizeof *values);
        if (!values)
            return HB_FAIL(HB_EMEMORY, "out of memory for the initial values of %s", p->name);
        for (int64_t g = 0; g < p->groups; g++) {
            char name[2 * HB_PARAM_NAME_MAX];
            if (matrix)
                fill(values + g * part, part, seed, hb_param_logical_name(p, g, name, sizeof name), spread,
                     model->context->threads);
        }
        for (int64_t e = 0; e < count && !matrix; e++)
            values[e] = norm ? 1.0f : 0.0f;
        hb_status status = hb_param_set(model->context, p, values);
        free(values);
        HB_TRY(status);
    }
    return HB_OK;
}
