/* The shape of a model, and its config.json in Hugging Face's form.
 *
 * Two families: `qwen3_moe` (experts in some or all layers) and `qwen3` (dense).
 * What changes the result and is not offered here is refused by name when a
 * config.json asks for it. Keys that transformers does not know (the article's
 * gate bias, the balance by selection bias, sinks and memory slots of attention)
 * stand under "hornbook". */
#ifndef HB_MODEL_CONFIG_H
#define HB_MODEL_CONFIG_H

#include <stdbool.h>

#include "core/status.h"
#include "tape/moe.h"
#include "tape/precision.h"

enum { HB_LAYERS_MAX = 1024 };

struct hb_model_config {
    int64_t vocab_size;          /* V */
    int64_t hidden_size;         /* C */
    int64_t num_hidden_layers;   /* L */
    int64_t num_attention_heads; /* H */
    int64_t num_key_value_heads; /* G, divides H */
    int64_t head_dim;            /* D, even; independent of C / H */
    int64_t intermediate_size;   /* F of dense layers */
    int64_t max_position_embeddings;
    double rms_norm_eps;
    double rope_theta;
    double initializer_range;
    bool tie_word_embeddings;
    int64_t bos_token_id, eos_token_id; /* -1: none */
    int64_t pad_token_id;               /* -1: none; of its embedding transformers makes no gradient, we do */

    int64_t sliding_window;            /* W of the layers that slide; 0: all attention is full */
    bool sliding_layer[HB_LAYERS_MAX]; /* of an expert model: all or none, as transformers has it */
    int64_t attention_sinks;           /* first positions that stay in sight of sliding layers */
    int64_t memory_slots;              /* M learned keys and values per layer */
    enum hb_attention_combine memory_combine;

    int64_t num_experts;           /* E; 0: a dense model */
    int64_t num_experts_per_tok;   /* K */
    int64_t moe_intermediate_size; /* F of experts */
    bool norm_topk_prob;
    int64_t decoder_sparse_step;
    bool dense_layer[HB_LAYERS_MAX]; /* mlp_only_layers */

    /* training of the router */
    double router_aux_loss_coef;
    enum hb_balance_kind balance; /* which definition the coefficient belongs to */
    double router_z_loss_coef;
    double balance_bias_rate; /* of balance `bias` */
    bool router_bias;         /* the article's gate: softmax(W x + b) */

    struct hb_precision precision; /* of its tensors; of saved weights, what they were trained with */
};

/* What transformers takes for a key that is absent. */
void hb_model_config_defaults(struct hb_model_config *config);

/* Is layer `i` (from 0) an expert layer? */
bool hb_model_config_is_moe(const struct hb_model_config *config, int64_t layer);
int64_t hb_model_config_moe_layers(const struct hb_model_config *config);

/* Shapes that cannot be: the message names key and rule; `where` stands in
 * front ("run.yaml", "config.json"), `prefix` before the key ("model."). */
HB_MUST_USE hb_status hb_model_config_check(const struct hb_model_config *config, const char **bad_key);

HB_MUST_USE hb_status hb_model_config_read(const char *path, struct hb_model_config *config);
/* Text for config.json, the caller free()s it. */
HB_MUST_USE hb_status hb_model_config_text(const struct hb_model_config *config, char **text);

/* Layers from `first` on slide, the others do not. */
void hb_model_config_slide_from(struct hb_model_config *config, int64_t first);

const char *hb_balance_name(enum hb_balance_kind kind); /* "none", "hf", "layer", "bias" */
const char *hb_combine_name(enum hb_attention_combine combine); /* "joint", "sum", "gated" */

#endif
