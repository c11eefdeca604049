/* The carry: what one microbatch takes along through the blocks. */
#ifndef HB_MODEL_CARRY_H
#define HB_MODEL_CARRY_H

#include "model/cache.h"
#include "model/config.h"
#include "tape/layers.h"
#include "tape/moe.h"

/* A microbatch on the host, as the data gives it. */
struct hb_batch {
    int64_t tokens;            /* n = sequences * T; 0 where a rank only takes part */
    const int32_t *ids;        /* [n] */
    const int32_t *labels;     /* [n], negative: ignored; NULL for generation */
    const int32_t *segments;   /* [S+1] rows where attention segments begin; last = n */
    int64_t segment_count;     /* S */
};

struct hb_carry {
    struct hb_context *context;
    /* from the data */
    struct hb_tensor ids, labels;
    struct hb_positions positions;
    /* from block to block */
    struct hb_var *residual; /* [n, C] */
    struct hb_balance balance;
    /* to the caller */
    struct hb_tensor loss;      /* fp32 [n], per row */
    struct hb_tensor loss_sum;  /* fp64 [1] */
    struct hb_tensor logits;    /* [count, V] for rows from logits_begin on; data NULL: loss */
    int64_t logits_begin;
    struct hb_choices *choices; /* [MoE layers], or NULL: nobody looks on */
    /* how */
    float loss_factor;       /* scale / labels of the step */
    struct hb_cache *cache;  /* NULL: none */
    /* owned memory */
    void *memory;
    int64_t capacity;
};

/* Memory for microbatches of up to `tokens` rows. */
HB_MUST_USE hb_status hb_carry_init(struct hb_carry *carry, struct hb_context *context,
                                    const struct hb_model_config *config, int64_t tokens);
void hb_carry_release(struct hb_carry *carry);

/* Copies a microbatch in and starts its statistics. `cosine`, `sine`: the
 * model's tables. With a cache the batch is one segment that continues it. */
HB_MUST_USE hb_status hb_carry_load(struct hb_carry *carry, const struct hb_batch *batch,
                                    struct hb_tensor cosine, struct hb_tensor sine);

#endif
