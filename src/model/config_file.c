/* config.json, read and written. */
#include <string.h>

#include "core/json.h"
#include "core/log.h"
#include "model/config.h"

/* Layers below the first one that slides. */
static int64_t full_layers(const struct hb_model_config *c)
{
    int64_t count = 0;
    while (count < c->num_hidden_layers && !c->sliding_layer[count])
        count++;
    return count;
}

/* Keys that change the result and are not offered: anything but null is refused. */
static const char *const foreign[] = {"quantization_config", "auto_map", NULL};

/* Keys that are read below, and those that change no number. */
static const char *const known[] = {
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "intermediate_size", "max_position_embeddings", "rms_norm_eps",
    "initializer_range", "tie_word_embeddings", "hidden_act", "attention_bias", "attention_dropout",
    "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "use_sliding_window",
    "sliding_window", "max_window_layers", "layer_types", "num_experts", "num_local_experts",
    "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step",
    "mlp_only_layers", "router_aux_loss_coef", "bos_token_id", "eos_token_id", "pad_token_id", "hornbook",
    /* no number */
    "architectures", "transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache",
    "output_router_logits", "output_hidden_states", "output_attentions", "return_dict", "tokenizer_class",
    NULL};
static const char *const known_rope[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor", NULL};
static const char *const known_ours[] = {
    "numerics_version", "balance", "router_z_loss_coef", "balance_bias_rate", "router_bias",
    "attention_sinks", "memory_slots", "memory_combine", "precision", NULL};

static bool is_among(const char *const *names, const char *name)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

/* A key of an object of ours, or of rope's, that nobody here reads. */
static hb_status refuse_others(const json_t *object, const char *path, const char *name,
                               const char *const *names)
{
    const char *key;
    const json_t *value;
    if (!json_is_object(object))
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' must be an object", path, name);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
        if (!json_is_null(value) && !is_among(names, key))
            return HB_FAIL(HB_EUNSUPPORTED, "%s: %s.%s is not supported", path, name, key);
    return HB_OK;
}

static hb_status refuse_partial(const json_t *object, const char *path)
{
    double partial;
    HB_TRY(hb_json_real_or(object, path, "partial_rotary_factor", 1, &partial));
    if (partial != 1)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: partial_rotary_factor %g is not supported", path, partial);
    return HB_OK;
}

/* What changes the result and is not offered is refused; what transformers does not
 * know either has no effect there, and is only worth a warning. */
static hb_status refuse_unsupported(const json_t *root, const char *path)
{
    const char *act, *key;
    const json_t *value;
    bool flag;
    double dropout;
    HB_TRY(hb_json_string_or(root, path, "hidden_act", "silu", &act));
    if (strcmp(act, "silu") != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: hidden_act \"%s\" is not supported, only \"silu\"", path, act);
    HB_TRY(hb_json_bool_or(root, path, "attention_bias", false, &flag));
    if (flag)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: attention_bias true is not supported", path);
    HB_TRY(hb_json_real_or(root, path, "attention_dropout", 0, &dropout));
    if (dropout != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: attention_dropout %g is not supported", path, dropout);
    HB_TRY(refuse_partial(root, path));
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        if (json_is_null(value))
            continue;
        if (is_among(foreign, key))
            return HB_FAIL(HB_EUNSUPPORTED, "%s: %s is not supported", path, key);
        if (!is_among(known, key))
            hb_log(HB_LOG_WARNING, "%s: key '%s' is not known and has no effect", path, key);
    }
    return HB_OK;
}

/* rope_theta at the top (transformers 4.x) or in rope_parameters (5.x), whose older
 * name is rope_scaling and wins. */
static hb_status read_rope(const json_t *root, const char *path, double *theta)
{
    const char *name = "rope_scaling", *type;
    const json_t *rope = json_object_get(root, name);
    HB_TRY(hb_json_real_or(root, path, "rope_theta", *theta, theta));
    if (!rope || json_is_null(rope)) {
        name = "rope_parameters";
        rope = json_object_get(root, name);
    }
    if (!rope || json_is_null(rope))
        return HB_OK;
    if (!json_is_object(rope))
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' must be an object", path, name);
    HB_TRY(hb_json_string_or(rope, path, "type", "default", &type));
    HB_TRY(hb_json_string_or(rope, path, "rope_type", type, &type));
    if (strcmp(type, "default") != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: rope_type \"%s\" in %s is not supported, only \"default\"", path,
                       type, name);
    HB_TRY(refuse_others(rope, path, name, known_rope));
    HB_TRY(refuse_partial(rope, path));
    return hb_json_real_or(rope, path, "rope_theta", *theta, theta);
}

/* layer_types[i]; qwen3_moe has none of its own: all layers do as the window says. */
static hb_status read_layer_type(const json_t *type, const char *path, size_t i, bool moe,
                                 struct hb_model_config *c)
{
    const char *name = json_string_value(type);
    bool slides = name && strcmp(name, "sliding_attention") == 0;
    if (!slides && (!name || strcmp(name, "full_attention") != 0))
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: layer_types[%zu] is neither full_attention nor sliding_attention", path, i);
    if (slides && !c->sliding_window)
        return HB_FAIL(HB_EFORMAT, "%s: layer_types[%zu] is sliding_attention, but use_sliding_window and "
                                   "sliding_window give no window",
                       path, i);
    if (moe && slides != (c->sliding_window > 0))
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: layer_types[%zu] is %s, but use_sliding_window makes all layers of "
                       "qwen3_moe slide",
                       path, i, name);
    c->sliding_layer[i] = slides;
    return HB_OK;
}

/* As transformers 5.23 reads both families, and 4.x files with it. */
static hb_status read_window(const json_t *root, const char *path, bool moe, struct hb_model_config *c)
{
    bool used;
    int64_t from;
    HB_TRY(hb_json_bool_or(root, path, "use_sliding_window", false, &used));
    if (used && !json_is_null(json_object_get(root, "sliding_window"))) {
        HB_TRY(hb_json_int_or(root, path, "sliding_window", 4096, &c->sliding_window));
        if (c->sliding_window < 1)
            return HB_FAIL(HB_EFORMAT, "%s: sliding_window (%lld) must be at least 1", path,
                           (long long)c->sliding_window);
    }
    HB_TRY(hb_json_int_or(root, path, "max_window_layers", 28, &from));
    hb_model_config_slide_from(c, moe ? 0 : from);
    const json_t *types = json_object_get(root, "layer_types");
    if (!types || json_is_null(types) || c->num_hidden_layers > HB_LAYERS_MAX) /* which will be refused */
        return HB_OK;
    if (!json_is_array(types) || (int64_t)json_array_size(types) != c->num_hidden_layers)
        return HB_FAIL(HB_EFORMAT, "%s: layer_types must be a list with an entry for each of the %lld layers",
                       path, (long long)c->num_hidden_layers);
    for (size_t i = 0; i < json_array_size(types); i++)
        HB_TRY(read_layer_type(json_array_get(types, i), path, i, moe, c));
    return HB_OK;
}

static hb_status read_experts(const json_t *root, const char *path, struct hb_model_config *c)
{
    int64_t local;
    HB_TRY(hb_json_int_or(root, path, "num_local_experts", 128, &local));
    HB_TRY(hb_json_int_or(root, path, "num_experts", local, &c->num_experts));
    if (json_is_integer(json_object_get(root, "num_local_experts")) && local != c->num_experts)
        return HB_FAIL(HB_EFORMAT, "%s: num_experts is %lld and num_local_experts, the same thing, is %lld",
                       path, (long long)c->num_experts, (long long)local);
    HB_TRY(hb_json_int_or(root, path, "num_experts_per_tok", 8, &c->num_experts_per_tok));
    HB_TRY(hb_json_int_or(root, path, "moe_intermediate_size", 768, &c->moe_intermediate_size));
    HB_TRY(hb_json_bool_or(root, path, "norm_topk_prob", false, &c->norm_topk_prob));
    HB_TRY(hb_json_int_or(root, path, "decoder_sparse_step", 1, &c->decoder_sparse_step));
    HB_TRY(hb_json_real_or(root, path, "router_aux_loss_coef", 0.001, &c->router_aux_loss_coef));
    const json_t *dense = json_object_get(root, "mlp_only_layers");
    if (dense && !json_is_array(dense) && !json_is_null(dense))
        return HB_FAIL(HB_EFORMAT, "%s: mlp_only_layers must be a list of layers", path);
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *item = json_array_get(dense, i);
        json_int_t layer = json_integer_value(item);
        if (!json_is_integer(item) || layer < 0 || layer >= HB_LAYERS_MAX)
            return HB_FAIL(HB_EFORMAT, "%s: mlp_only_layers[%zu] must be the number of a layer", path, i);
        c->dense_layer[layer] = true;
    }
    return HB_OK;
}

static hb_status read_ours(const json_t *root, const char *path, struct hb_model_config *c)
{
    const json_t *ours = json_object_get(root, "hornbook");
    if (!ours)
        return HB_OK;
    HB_TRY(refuse_others(ours, path, "hornbook", known_ours));
    const char *balance, *combine;
    HB_TRY(hb_json_int_or(ours, path, "attention_sinks", 0, &c->attention_sinks));
    HB_TRY(hb_json_int_or(ours, path, "memory_slots", 0, &c->memory_slots));
    HB_TRY(hb_json_string_or(ours, path, "memory_combine", "joint", &combine));
    int kind = HB_JOINT;
    while (kind <= HB_GATED && strcmp(hb_combine_name((enum hb_attention_combine)kind), combine) != 0)
        kind++;
    if (kind > HB_GATED)
        return HB_FAIL(HB_EFORMAT, "%s: hornbook.memory_combine must be joint, sum or gated, got \"%s\"",
                       path, combine);
    c->memory_combine = (enum hb_attention_combine)kind;
    HB_TRY(hb_json_string_or(ours, path, "balance", "hf", &balance));
    kind = HB_BALANCE_NONE;
    while (kind <= HB_BALANCE_BIAS && strcmp(hb_balance_name((enum hb_balance_kind)kind), balance) != 0)
        kind++;
    if (kind > HB_BALANCE_BIAS)
        return HB_FAIL(HB_EFORMAT, "%s: hornbook.balance must be none, hf, layer or bias, got \"%s\"", path,
                       balance);
    c->balance = (enum hb_balance_kind)kind;
    HB_TRY(hb_json_real_or(ours, path, "router_z_loss_coef", 0, &c->router_z_loss_coef));
    HB_TRY(hb_json_real_or(ours, path, "balance_bias_rate", 0.001, &c->balance_bias_rate));
    return hb_json_bool_or(ours, path, "router_bias", false, &c->router_bias);
}

static hb_status read_precision(const json_t *root, const char *path, struct hb_precision *precision)
{
    const json_t *map = json_object_get(json_object_get(root, "hornbook"), "precision");
    const char *key;
    const json_t *value;
    if (!map)
        return HB_OK;
    if (!json_is_object(map))
        return HB_FAIL(HB_EFORMAT, "%s: hornbook.precision must be an object", path);
    HB_TRY(hb_precision_preset("fp32", precision));
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        if (!json_is_string(value))
            return HB_FAIL(HB_EFORMAT, "%s: hornbook.precision.%s must be a string", path, key);
        hb_status status = hb_precision_set(precision, key, json_string_value(value));
        if (status != HB_OK)
            return hb_fail_in(status, "%s: hornbook.precision", path);
    }
    hb_status status = hb_precision_check(precision);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s: hornbook.precision", path);
}

/* Models in fp32 say nothing, so that their files stay as they are. */
static void write_precision(json_t **ours, const struct hb_precision *precision)
{
    if (hb_precision_is_fp32(precision))
        return;
    json_t *map = json_object();
    for (int i = 0; i < HB_PRECISION_FIELDS; i++)
        hb_json_put(&map, hb_precision_field(i), json_string(hb_precision_value(precision, i)));
    hb_json_put(ours, "precision", map);
}

/* The class's defaults for keys that are absent; null is the number of query heads. */
static hb_status read_heads(const json_t *root, const char *path, bool moe, struct hb_model_config *c)
{
    int64_t heads = json_object_get(root, "num_key_value_heads") ? c->num_attention_heads : moe ? 4 : 32;
    HB_TRY(hb_json_int_or(root, path, "num_key_value_heads", heads, &c->num_key_value_heads));
    int64_t width = !moe ? 128 : c->num_attention_heads > 0 ? c->hidden_size / c->num_attention_heads : 0;
    return hb_json_int_or(root, path, "head_dim", width, &c->head_dim);
}

static hb_status read_padding(const json_t *root, const char *path, struct hb_model_config *c)
{
    HB_TRY(hb_json_int_or(root, path, "pad_token_id", -1, &c->pad_token_id));
    const json_t *id = json_object_get(root, "pad_token_id");
    if (json_is_integer(id) && (c->pad_token_id < 0 || c->pad_token_id >= c->vocab_size))
        return HB_FAIL(HB_EFORMAT, "%s: pad_token_id (%lld) must be null or below vocab_size (%lld)", path,
                       (long long)c->pad_token_id, (long long)c->vocab_size);
    return HB_OK;
}

static hb_status read_root(const json_t *root, const char *path, struct hb_model_config *c)
{
    const char *type;
    HB_TRY(hb_json_string(root, path, "model_type", &type));
    bool moe = strcmp(type, "qwen3_moe") == 0;
    if (!moe && strcmp(type, "qwen3") != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: model_type \"%s\" is not supported, only qwen3_moe and qwen3",
                       path, type);
    HB_TRY(refuse_unsupported(root, path));
    HB_TRY(hb_json_int(root, path, "vocab_size", &c->vocab_size));
    HB_TRY(hb_json_int(root, path, "hidden_size", &c->hidden_size));
    HB_TRY(hb_json_int(root, path, "num_hidden_layers", &c->num_hidden_layers));
    HB_TRY(hb_json_int(root, path, "num_attention_heads", &c->num_attention_heads));
    HB_TRY(read_heads(root, path, moe, c));
    HB_TRY(hb_json_int_or(root, path, "intermediate_size", 0, &c->intermediate_size));
    HB_TRY(hb_json_int_or(root, path, "max_position_embeddings", c->max_position_embeddings,
                          &c->max_position_embeddings));
    HB_TRY(hb_json_real_or(root, path, "rms_norm_eps", c->rms_norm_eps, &c->rms_norm_eps));
    HB_TRY(hb_json_real_or(root, path, "initializer_range", c->initializer_range, &c->initializer_range));
    HB_TRY(hb_json_bool_or(root, path, "tie_word_embeddings", false, &c->tie_word_embeddings));
    HB_TRY(read_rope(root, path, &c->rope_theta));
    /* Token ids may be lists in Hugging Face's files; one of several is of no use here. */
    if (json_is_integer(json_object_get(root, "bos_token_id")))
        c->bos_token_id = json_integer_value(json_object_get(root, "bos_token_id"));
    if (json_is_integer(json_object_get(root, "eos_token_id")))
        c->eos_token_id = json_integer_value(json_object_get(root, "eos_token_id"));
    HB_TRY(read_padding(root, path, c));
    HB_TRY(read_window(root, path, moe, c));
    if (moe)
        HB_TRY(read_experts(root, path, c));
    HB_TRY(read_precision(root, path, &c->precision));
    return read_ours(root, path, c);
}

hb_status hb_model_config_read(const char *path, struct hb_model_config *config)
{
    json_t *root;
    hb_model_config_defaults(config);
    HB_TRY(hb_json_load(path, 0, &root));
    hb_status status = read_root(root, path, config);
    json_decref(root);
    if (status != HB_OK)
        return status;
    const char *bad_key;
    status = hb_model_config_check(config, &bad_key);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s", path);
}

static json_t *token_id(int64_t id)
{
    return id < 0 ? json_null() : json_integer(id);
}

static void add_experts(json_t **root, const struct hb_model_config *c)
{
    hb_json_put(root, "num_experts", json_integer(c->num_experts));
    hb_json_put(root, "num_experts_per_tok", json_integer(c->num_experts_per_tok));
    hb_json_put(root, "moe_intermediate_size", json_integer(c->moe_intermediate_size));
    hb_json_put(root, "norm_topk_prob", json_boolean(c->norm_topk_prob));
    hb_json_put(root, "decoder_sparse_step", json_integer(c->decoder_sparse_step));
    json_t *dense = json_array();
    for (int64_t l = 0; l < c->num_hidden_layers; l++)
        if (c->dense_layer[l])
            hb_json_append(&dense, json_integer(l));
    hb_json_put(root, "mlp_only_layers", dense);
    hb_json_put(root, "router_aux_loss_coef", json_real(c->router_aux_loss_coef));
    hb_json_put(root, "output_router_logits", json_false());
}

static void add_window(json_t **root, const struct hb_model_config *c)
{
    hb_json_put(root, "use_sliding_window", json_boolean(c->sliding_window > 0));
    if (c->sliding_window == 0)
        return;
    hb_json_put(root, "sliding_window", json_integer(c->sliding_window));
    hb_json_put(root, "max_window_layers", json_integer(full_layers(c)));
    if (c->num_experts > 0)
        return;
    json_t *types = json_array();
    for (int64_t l = 0; l < c->num_hidden_layers; l++)
        hb_json_append(&types, json_string(c->sliding_layer[l] ? "sliding_attention" : "full_attention"));
    hb_json_put(root, "layer_types", types);
}

static void add_ours(json_t **root, const struct hb_model_config *c)
{
    json_t *ours = json_pack("{s:i, s:s, s:f, s:f, s:b}", "numerics_version", HB_NUMERICS_VERSION, "balance",
                             hb_balance_name(c->balance), "router_z_loss_coef", c->router_z_loss_coef,
                             "balance_bias_rate", c->balance_bias_rate, "router_bias", (int)c->router_bias);
    if (c->attention_sinks)
        hb_json_put(&ours, "attention_sinks", json_integer(c->attention_sinks));
    if (c->memory_slots) {
        hb_json_put(&ours, "memory_slots", json_integer(c->memory_slots));
        hb_json_put(&ours, "memory_combine", json_string(hb_combine_name(c->memory_combine)));
    }
    write_precision(&ours, &c->precision);
    hb_json_put(root, "hornbook", ours);
}

hb_status hb_model_config_text(const struct hb_model_config *c, char **text)
{
    bool moe = c->num_experts > 0;
    json_t *root = json_object();
    hb_json_put(&root, "architectures",
                json_pack("[s]", moe ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM"));
    hb_json_put(&root, "model_type", json_string(moe ? "qwen3_moe" : "qwen3"));
    hb_json_put(&root, "vocab_size", json_integer(c->vocab_size));
    hb_json_put(&root, "hidden_size", json_integer(c->hidden_size));
    hb_json_put(&root, "num_hidden_layers", json_integer(c->num_hidden_layers));
    hb_json_put(&root, "num_attention_heads", json_integer(c->num_attention_heads));
    hb_json_put(&root, "num_key_value_heads", json_integer(c->num_key_value_heads));
    hb_json_put(&root, "head_dim", json_integer(c->head_dim));
    hb_json_put(&root, "intermediate_size", json_integer(c->intermediate_size));
    hb_json_put(&root, "hidden_act", json_string("silu"));
    hb_json_put(&root, "max_position_embeddings", json_integer(c->max_position_embeddings));
    hb_json_put(&root, "rms_norm_eps", json_real(c->rms_norm_eps));
    hb_json_put(&root, "rope_theta", json_real(c->rope_theta));
    hb_json_put(&root, "attention_bias", json_false());
    hb_json_put(&root, "attention_dropout", json_real(0));
    hb_json_put(&root, "initializer_range", json_real(c->initializer_range));
    hb_json_put(&root, "tie_word_embeddings", json_boolean(c->tie_word_embeddings));
    add_window(&root, c);
    hb_json_put(&root, "bos_token_id", token_id(c->bos_token_id));
    hb_json_put(&root, "eos_token_id", token_id(c->eos_token_id));
    if (c->pad_token_id >= 0)
        hb_json_put(&root, "pad_token_id", json_integer(c->pad_token_id));
    static const char *const torch[] = {"float32", "bfloat16", "float16"};
    hb_json_put(&root, "torch_dtype", json_string(torch[c->precision.weights]));
    if (moe)
        add_experts(&root, c);
    add_ours(&root, c);
    hb_status status = hb_json_text(root, text);
    json_decref(root);
    return status;
}
