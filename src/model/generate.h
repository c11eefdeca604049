/* Text generation, token by token, through a cache of keys and values.
 *
 * A cached forward gives the bits of the full one (numerics.md rule 14), so the
 * text depends on the model, the prompt, the settings and the seed alone. */
#ifndef HB_MODEL_GENERATE_H
#define HB_MODEL_GENERATE_H

#include "model/model.h"

struct hb_generator {
    const struct hb_model *model;
    struct hb_tape tape; /* never records */
    struct hb_carry carry;
    struct hb_cache cache;
    struct hb_tensor logits; /* fp32 [1,V] */
};

/* Room for `capacity` positions, fed at most `chunk` tokens at a time. */
HB_MUST_USE hb_status hb_generator_init(struct hb_generator *generator, const struct hb_model *model,
                                        int64_t capacity, int64_t chunk);
void hb_generator_release(struct hb_generator *generator);

/* Appends `count` tokens to the text and writes the logits after the last one
 * to `logits` [V]. */
HB_MUST_USE hb_status hb_generator_feed(struct hb_generator *generator, const int32_t *ids, int64_t count,
                                        float *logits);

struct hb_sampling {
    double temperature; /* 0: the most probable token, the lowest id of equals */
    int64_t top_k;      /* keep the k most probable tokens; 0: all */
    /* of those, the smallest set with at least this probability (Holtzman et al. 2020); 1: all */
    double top_p;
    uint64_t seed;
};

/* Chooses the token at `position` of the text from logits [V]. `order` [V] is
 * working memory. */
int32_t hb_sample_token(const float *logits, int64_t V, const struct hb_sampling *sampling, int64_t position,
                        int32_t *order);

#endif
