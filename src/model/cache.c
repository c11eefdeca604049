#include "model/cache.h"

#include <stdlib.h>

hb_status hb_cache_init(struct hb_cache *cache, struct hb_context *context,
                        const struct hb_model_config *config, int64_t capacity)
{
    int64_t L = config->num_hidden_layers, width = config->num_key_value_heads * config->head_dim;
    *cache = (struct hb_cache){
        .capacity = capacity, .layers = L, .sinks = config->attention_sinks,
        .window = config->sliding_window};
    cache->k = calloc((size_t)L, sizeof *cache->k);
    cache->v = calloc((size_t)L, sizeof *cache->v);
    cache->ring = calloc((size_t)L, sizeof *cache->ring);
    hb_status status = cache->k && cache->v && cache->ring
                           ? HB_OK
                           : HB_FAIL(HB_EMEMORY, "out of memory for the cache's list");
    enum hb_dtype type = hb_class_dtype(context, &config->precision, HB_CLASS_ACTIVATION);
    for (int64_t l = 0; l < L && status == HB_OK; l++) {
        int64_t ring = config->sliding_window + config->attention_sinks;
        cache->ring[l] = config->sliding_layer[l] && ring < capacity ? ring : 0;
        cache->k[l] = hb_tensor_2d(context, NULL, type, cache->ring[l] ? ring : capacity, width);
        cache->v[l] = cache->k[l];
        status = hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&cache->k[l]), &cache->k[l].data);
        if (status == HB_OK)
            status = hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&cache->v[l]),
                              &cache->v[l].data);
    }
    if (status != HB_OK)
        hb_cache_release(cache, context);
    return status;
}

void hb_cache_release(struct hb_cache *cache, struct hb_context *context)
{
    for (int64_t l = 0; l < cache->layers; l++) {
        if (cache->k)
            hb_free(context, cache->k[l].data);
        if (cache->v)
            hb_free(context, cache->v[l].data);
    }
    free(cache->k);
    free(cache->v);
    free(cache->ring);
    *cache = (struct hb_cache){0};
}

size_t hb_cache_bytes(const struct hb_cache *cache)
{
    size_t bytes = 0;
    for (int64_t l = 0; l < cache->layers; l++)
        bytes += hb_tensor_bytes(&cache->k[l]) + hb_tensor_bytes(&cache->v[l]);
    return bytes;
}

size_t hb_cache_full_bytes(const struct hb_cache *cache)
{
    struct hb_tensor row = cache->k[0];
    row.shape[0] = cache->capacity;
    return (size_t)cache->layers * 2 * hb_tensor_bytes(&row);
}

/* Which row of a tensor has which position: row j - first, or that of a ring. */
struct place {
    struct hb_tensor t;
    int64_t first, ring, sinks;
};

static int64_t row_of(const struct place *p, int64_t j)
{
    if (!p->ring)
        return j - p->first;
    return j < p->sinks ? j : p->sinks + (j - p->sinks) % (p->ring - p->sinks);
}

/* Positions from j on that lie in rows next to each other. */
static int64_t run_of(const struct place *p, int64_t j)
{
    if (!p->ring)
        return INT64_MAX;
    return j < p->sinks ? p->sinks - j : p->ring - row_of(p, j);
}

/* Positions [begin, end) from one place to another. */
static hb_status move(struct hb_context *context, const struct place *from, const struct place *to,
                      int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end;) {
        int64_t run = end - j, a = run_of(from, j), b = run_of(to, j);
        run = a < run ? a : run;
        run = b < run ? b : run;
        HB_TRY(hb_copy(context, hb_tensor_rows(to->t, row_of(to, j), run),
                       hb_tensor_rows(from->t, row_of(from, j), run)));
        j += run;
    }
    return HB_OK;
}

/* The positions that are still in sight of position `from` or later: sinks, and what lies in the window. */
static hb_status move_seen(const struct hb_cache *cache, struct hb_context *context,
                           const struct place *from_place, const struct place *to, int64_t begin, int64_t end,
                           int64_t from)
{
    int64_t sinks = cache->sinks < end ? cache->sinks : end, window = from - cache->window + 1;
    HB_TRY(move(context, from_place, to, begin, sinks));
    begin = begin > sinks ? begin : sinks;
    return move(context, from_place, to, begin > window ? begin : window, end);
}

/* One of the two: keys or values. */
static hb_status put(const struct hb_cache *cache, struct hb_tape *tape, int64_t ring, struct hb_tensor kept,
                     struct hb_tensor fresh, struct hb_tensor *view, struct hb_buffer **buffer)
{
    struct hb_context *context = tape->context;
    int64_t begin = cache->length, n = fresh.shape[0], end = begin + n;
    const struct place in_cache = {kept, 0, ring, cache->sinks}, from = {fresh, begin, 0, 0};
    if (!ring || n == 1) {
        *view = kept;
        return move(context, &from, &in_cache, begin, end);
    }
    if (begin == 0) { /* nothing else is there to be seen */
        *view = fresh;
        return move_seen(cache, context, &from, &in_cache, 0, end, end);
    }
    /* The first new position sees what the last one will have pushed out of the ring. */
    int64_t rows = cache->sinks + cache->window + n - 1;
    HB_TRY(hb_tape_scratch(tape, fresh.dtype, 2, (int64_t[]){rows, fresh.shape[1]}, buffer, view));
    const struct place wide = {*view, 0, rows, cache->sinks};
    HB_TRY(move_seen(cache, context, &in_cache, &wide, 0, begin, begin));
    HB_TRY(move(context, &from, &wide, begin, end));
    return move_seen(cache, context, &from, &in_cache, begin, end, end);
}

hb_status hb_cache_put(struct hb_cache *cache, struct hb_tape *tape, int64_t layer, struct hb_tensor k,
                       struct hb_tensor v, struct hb_cache_view *view)
{
    int64_t ring = cache->ring[layer], n = k.shape[0];
    *view = (struct hb_cache_view){.ring = ring};
    if (ring && n > 1)
        view->ring = cache->length == 0 ? 0 : cache->sinks + cache->window + n - 1;
    hb_status status = put(cache, tape, ring, cache->k[layer], k, &view->k, &view->buffer[0]);
    if (status == HB_OK)
        status = put(cache, tape, ring, cache->v[layer], v, &view->v, &view->buffer[1]);
    if (status != HB_OK)
        hb_cache_done(tape, view);
    return status;
}

void hb_cache_done(struct hb_tape *tape, struct hb_cache_view *view)
{
    for (int i = 0; i < 2; i++)
        hb_pool_drop(&tape->pool, view->buffer[i]);
    *view = (struct hb_cache_view){0};
}
