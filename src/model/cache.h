/* Keys and values of earlier positions, for generation: one segment.
 *
 * A layer that slides over a window of W keeps W + sinks rows, however long the
 * text: sinks lie at their place, later positions go round behind them
 * (ops/attention.h says which row). Attention sees absolute positions either
 * way, so a cached forward has the bits of the full one (numerics.md rule 14). */
#ifndef HB_MODEL_CACHE_H
#define HB_MODEL_CACHE_H

#include "model/config.h"
#include "tape/layers.h"

struct hb_cache {
    struct hb_tensor *k, *v; /* [L], each [capacity, G D], or [ring, G D] */
    int64_t *ring;           /* [L], 0: the layer keeps every position */
    int64_t layers, sinks, window;
    int64_t capacity, length; /* positions */
};

HB_MUST_USE hb_status hb_cache_init(struct hb_cache *cache, struct hb_context *context,
                                    const struct hb_model_config *config, int64_t capacity);
void hb_cache_release(struct hb_cache *cache, struct hb_context *context);

/* Bytes of keys and values; and what they would be if no layer went round. */
size_t hb_cache_bytes(const struct hb_cache *cache);
size_t hb_cache_full_bytes(const struct hb_cache *cache);

/* What attention reads for the positions length .. length + n - 1. */
struct hb_cache_view {
    struct hb_tensor k, v;
    int64_t ring;                /* for hb_attention_layer */
    struct hb_buffer *buffer[2]; /* NULL, or memory of k and v from the tape's pool */
};

/* Puts the n new keys and values of a layer (n rows of k, v) into the cache and
 * says what attention must read. Call hb_cache_done when it has. `length` moves on
 * when all layers are through, by the caller. */
HB_MUST_USE hb_status hb_cache_put(struct hb_cache *cache, struct hb_tape *tape, int64_t layer,
                                   struct hb_tensor k, struct hb_tensor v, struct hb_cache_view *view);
void hb_cache_done(struct hb_tape *tape, struct hb_cache_view *view);

#endif
