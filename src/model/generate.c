#define _GNU_SOURCE
#include "model/generate.h"

#include <stdlib.h>

#include "core/math64.h"
#include "core/philox.h"

hb_status hb_generator_init(struct hb_generator *g, const struct hb_model *model, int64_t capacity,
                            int64_t chunk)
{
    *g = (struct hb_generator){.model = model};
    hb_tape_init(&g->tape, model->context);
    hb_status status = hb_carry_init(&g->carry, model->context, &model->config, chunk);
    if (status == HB_OK)
        status = hb_cache_init(&g->cache, model->context, &model->config, capacity);
    if (status == HB_OK) {
        g->logits = hb_tensor_2d(model->context, NULL, hb_real_dtype(model->context), 1,
                                 model->config.vocab_size);
        status = hb_alloc(model->context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&g->logits),
                          &g->logits.data);
    }
    if (status != HB_OK)
        hb_generator_release(g);
    return status;
}

void hb_generator_release(struct hb_generator *g)
{
    if (!g->model)
        return;
    hb_tape_release(&g->tape);
    hb_carry_release(&g->carry);
    hb_cache_release(&g->cache, g->model->context);
    hb_free(g->model->context, g->logits.data);
    *g = (struct hb_generator){0};
}

hb_status hb_generator_feed(struct hb_generator *g, const int32_t *ids, int64_t count, float *logits)
{
    while (count > 0) {
        int64_t n = count < g->carry.capacity ? count : g->carry.capacity;
        int32_t segments[2] = {0, (int32_t)n};
        struct hb_batch batch = {.tokens = n, .ids = ids, .segments = segments, .segment_count = 1};
        g->carry.cache = &g->cache;
        g->carry.logits = g->logits;
        g->carry.logits_begin = n - 1;
        hb_tape_begin(&g->tape, NULL, 0);
        HB_TRY(hb_carry_load(&g->carry, &batch, g->model->cosine, g->model->sine));
        HB_TRY(hb_model_forward(g->model, &g->tape, &g->carry));
        g->cache.length += n;
        ids += n;
        count -= n;
    }
    return hb_copy_out_f32(g->model->context, logits, g->logits);
}

static int by_logit(const void *a, const void *b, void *data)
{
    const float *logits = data;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (logits[i] != logits[j])
        return logits[i] > logits[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static int32_t most_probable(const float *logits, int64_t V)
{
    int64_t best = 0;
    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

int32_t hb_sample_token(const float *logits, int64_t V, const struct hb_sampling *sampling, int64_t position,
                        int32_t *order)
{
    if (!(sampling->temperature > 0))
        return most_probable(logits, V);
    for (int64_t i = 0; i < V; i++)
        order[i] = (int32_t)i;
    qsort_r(order, (size_t)V, sizeof *order, by_logit, (void *)(uintptr_t)logits);
    int64_t kept = sampling->top_k > 0 && sampling->top_k < V ? sampling->top_k : V;
    double largest = (double)logits[order[0]], total = 0, inside = 0;
    for (int64_t i = 0; i < kept; i++)
        total += hb_exp64(((double)logits[order[i]] - largest) / sampling->temperature);
    /* The smallest set that holds top_p of the probability. */
    double wanted = sampling->top_p * total;
    int64_t count = 0;
    while (count < kept && (count == 0 || inside < wanted))
        inside += hb_exp64(((double)logits[order[count++]] - largest) / sampling->temperature);
    struct hb_random stream = hb_random_stream(sampling->seed, HB_PURPOSE_SAMPLE, 0, 0);
    double left = hb_random_uniform_f64(&stream, (uint64_t)position) * inside;
    for (int64_t i = 0; i < count - 1; i++) {
        left -= hb_exp64(((double)logits[order[i]] - largest) / sampling->temperature);
        if (left < 0)
            return order[i];
    }
    return order[count - 1];
}
