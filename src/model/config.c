#include "model/config.h"

#include <string.h>

void hb_model_config_defaults(struct hb_model_config *config)
{
    *config = (struct hb_model_config){
        .max_position_embeddings = 32768,
        .rms_norm_eps = 1e-6,
        .rope_theta = 10000,
        .initializer_range = 0.02,
        .bos_token_id = -1,
        .eos_token_id = -1,
        .pad_token_id = -1,
        .decoder_sparse_step = 1,
        .router_aux_loss_coef = 0.001,
        .balance = HB_BALANCE_HF,
    };
}

bool hb_model_config_is_moe(const struct hb_model_config *config, int64_t layer)
{
    return config->num_experts > 0 && !config->dense_layer[layer] &&
           (layer + 1) % config->decoder_sparse_step == 0;
}

int64_t hb_model_config_moe_layers(const struct hb_model_config *config)
{
    int64_t count = 0;
    for (int64_t l = 0; l < config->num_hidden_layers; l++)
        count += hb_model_config_is_moe(config, l);
    return count;
}

static const char *const balance_names[] = {"none", "hf", "layer", "bias"};

const char *hb_balance_name(enum hb_balance_kind kind)
{
    return balance_names[kind];
}

static const char *const combine_names[] = {"joint", "sum", "gated"};

const char *hb_combine_name(enum hb_attention_combine combine)
{
    return combine_names[combine];
}

void hb_model_config_slide_from(struct hb_model_config *config, int64_t first)
{
    for (int64_t l = 0; l < HB_LAYERS_MAX; l++)
        config->sliding_layer[l] = config->sliding_window > 0 && l >= first && l < config->num_hidden_layers;
}

static hb_status positive(const char *key, int64_t value, int64_t most, const char **bad_key)
{
    *bad_key = key;
    if (value < 1 || value > most)
        return HB_FAIL(HB_EARGUMENT, "%s (%lld) must be from 1 to %lld", key, (long long)value,
                       (long long)most);
    return HB_OK;
}

static hb_status check_experts(const struct hb_model_config *c, const char **bad_key)
{
    HB_TRY(positive("num_experts", c->num_experts, 65536, bad_key));
    HB_TRY(positive("moe_intermediate_size", c->moe_intermediate_size, 1 << 24, bad_key));
    HB_TRY(positive("decoder_sparse_step", c->decoder_sparse_step, HB_LAYERS_MAX, bad_key));
    *bad_key = "num_experts_per_tok";
    if (c->num_experts_per_tok < 1 || c->num_experts_per_tok > c->num_experts)
        return HB_FAIL(HB_EARGUMENT, "num_experts_per_tok (%lld) must be from 1 to num_experts (%lld)",
                       (long long)c->num_experts_per_tok, (long long)c->num_experts);
    *bad_key = "num_experts";
    if (hb_model_config_moe_layers(c) == 0)
        return HB_FAIL(HB_EARGUMENT,
                       "num_experts is %lld, but mlp_only_layers and decoder_sparse_step leave no "
                       "expert layer; set num_experts to 0",
                       (long long)c->num_experts);
    return HB_OK;
}

static hb_status check_attention(const struct hb_model_config *c, const char **bad_key)
{
    *bad_key = "sliding_window";
    if (c->sliding_window < 0 || c->sliding_window > 1 << 24)
        return HB_FAIL(HB_EARGUMENT, "sliding_window (%lld) must be from 0 to 16777216",
                       (long long)c->sliding_window);
    for (int64_t l = 0; l < c->num_hidden_layers; l++)
        if (c->sliding_window && c->num_experts && !c->sliding_layer[l])
            return HB_FAIL(HB_EARGUMENT,
                           "layer %lld is full: in a model with experts all layers slide or none; set "
                           "max_window_layers to 0",
                           (long long)l);
    *bad_key = "attention_sinks";
    if (c->attention_sinks < 0 || c->attention_sinks > 1 << 24 || (c->attention_sinks && !c->sliding_window))
        return HB_FAIL(HB_EARGUMENT,
                       "attention_sinks (%lld) must be from 0 to 16777216 and needs a sliding_window",
                       (long long)c->attention_sinks);
    *bad_key = "memory_slots";
    if (c->memory_slots < 0 || c->memory_slots > 1 << 16)
        return HB_FAIL(HB_EARGUMENT, "memory_slots (%lld) must be from 0 to 65536",
                       (long long)c->memory_slots);
    *bad_key = "memory_combine";
    if (c->memory_combine != HB_JOINT && c->memory_slots == 0)
        return HB_FAIL(HB_EARGUMENT, "memory_combine %s needs memory_slots",
                       hb_combine_name(c->memory_combine));
    return HB_OK;
}

hb_status hb_model_config_check(const struct hb_model_config *c, const char **bad_key)
{
    const int64_t most = 1 << 24;
    HB_TRY(positive("vocab_size", c->vocab_size, 1 << 28, bad_key));
    HB_TRY(positive("hidden_size", c->hidden_size, most, bad_key));
    HB_TRY(positive("num_hidden_layers", c->num_hidden_layers, HB_LAYERS_MAX, bad_key));
    HB_TRY(positive("num_attention_heads", c->num_attention_heads, 65536, bad_key));
    HB_TRY(positive("num_key_value_heads", c->num_key_value_heads, 65536, bad_key));
    HB_TRY(positive("head_dim", c->head_dim, 65536, bad_key));
    HB_TRY(positive("max_position_embeddings", c->max_position_embeddings, 1 << 24, bad_key));
    *bad_key = "num_key_value_heads";
    if (c->num_attention_heads % c->num_key_value_heads)
        return HB_FAIL(HB_EARGUMENT, "num_key_value_heads (%lld) must divide num_attention_heads (%lld)",
                       (long long)c->num_key_value_heads, (long long)c->num_attention_heads);
    *bad_key = "head_dim";
    if (c->head_dim % 2)
        return HB_FAIL(HB_EARGUMENT, "head_dim (%lld) must be even: rope turns pairs",
                       (long long)c->head_dim);
    *bad_key = "rms_norm_eps";
    if (!(c->rms_norm_eps >= 0 && c->rms_norm_eps < 1))
        return HB_FAIL(HB_EARGUMENT, "rms_norm_eps (%g) must be from 0 to 1", c->rms_norm_eps);
    *bad_key = "rope_theta";
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12))
        return HB_FAIL(HB_EARGUMENT, "rope_theta (%g) must be from 1 to 1e12", c->rope_theta);
    if (c->num_experts > 0)
        HB_TRY(check_experts(c, bad_key));
    HB_TRY(check_attention(c, bad_key));
    *bad_key = "balance";
    if (c->num_experts == 0 && c->router_bias)
        return HB_FAIL(HB_EARGUMENT, "router_bias needs experts; set num_experts");
    if (hb_model_config_moe_layers(c) < c->num_hidden_layers)
        HB_TRY(positive("intermediate_size", c->intermediate_size, most, bad_key));
    *bad_key = NULL;
    return HB_OK;
}
