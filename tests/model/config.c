/* config.json: both dialects of Hugging Face, what is refused, and our own. */
#include "model/config.h"

#include "core/json.h"
#include "core/scratch.h"

/* Qwen3-30B-A3B as transformers 4 wrote it. */
static const char dialect4[] =
    "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"attention_bias\": false, \"attention_dropout\": 0.0,"
    " \"bos_token_id\": 151643, \"decoder_sparse_step\": 1, \"eos_token_id\": 151645, \"head_dim\": 128,"
    " \"hidden_act\": \"silu\", \"hidden_size\": 2048, \"initializer_range\": 0.02,"
    " \"intermediate_size\": 6144, \"max_position_embeddings\": 40960, \"max_window_layers\": 48,"
    " \"mlp_only_layers\": [], \"model_type\": \"qwen3_moe\", \"moe_intermediate_size\": 768,"
    " \"norm_topk_prob\": true, \"num_attention_heads\": 32, \"num_experts\": 128,"
    " \"num_experts_per_tok\": 8, \"num_hidden_layers\": 48, \"num_key_value_heads\": 4,"
    " \"output_router_logits\": false, \"rms_norm_eps\": 1e-06, \"rope_scaling\": null,"
    " \"rope_theta\": 1000000.0, \"router_aux_loss_coef\": 0.001, \"sliding_window\": null,"
    " \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\", \"transformers_version\": \"4.51.0\","
    " \"use_cache\": true, \"use_sliding_window\": false, \"vocab_size\": 151936}";

/* A small model as transformers 5 writes it. */
static const char dialect5[] =
    "{\"model_type\": \"qwen3_moe\", \"dtype\": \"float32\", \"vocab_size\": 97, \"hidden_size\": 48,"
    " \"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16,"
    " \"intermediate_size\": 64, \"num_local_experts\": 8, \"num_experts_per_tok\": 2,"
    " \"moe_intermediate_size\": 32, \"mlp_only_layers\": [3], \"decoder_sparse_step\": 2,"
    " \"eos_token_id\": [5, 6], \"bos_token_id\": null,"
    " \"rope_parameters\": {\"rope_theta\": 250000, \"rope_type\": \"default\"},"
    " \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\"],"
    " \"tie_word_embeddings\": true}";

static const char dense[] =
    "{\"model_type\": \"qwen3\", \"vocab_size\": 97, \"hidden_size\": 64, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": null, \"head_dim\": 16,"
    " \"intermediate_size\": 96}";

static hb_status read_text(const char *text, struct hb_model_config *config)
{
    return hb_model_config_read(scratch_write("config.json", text, strlen(text)), config);
}

/* `base` with one key set to a JSON value (NULL: removed). */
static hb_status read_with(const char *base, const char *key, const char *value,
                           struct hb_model_config *config)
{
    json_t *root = json_loads(base, 0, NULL);
    assert_non_null(root);
    if (value)
        assert_int_equal(json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        assert_int_equal(json_object_del(root, key), 0);
    char *text = json_dumps(root, 0);
    json_decref(root);
    hb_status status = read_text(text, config);
    free(text);
    return status;
}

static void reads_version_4(void **state)
{
    (void)state;
    struct hb_model_config c;
    OK(read_text(dialect4, &c));
    assert_int_equal(c.vocab_size, 151936);
    assert_int_equal(c.hidden_size, 2048);
    assert_int_equal(c.num_hidden_layers, 48);
    assert_int_equal(c.num_attention_heads, 32);
    assert_int_equal(c.num_key_value_heads, 4);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.intermediate_size, 6144);
    assert_int_equal(c.max_position_embeddings, 40960);
    assert_int_equal(c.num_experts, 128);
    assert_int_equal(c.num_experts_per_tok, 8);
    assert_int_equal(c.moe_intermediate_size, 768);
    assert_int_equal(c.bos_token_id, 151643);
    assert_int_equal(c.eos_token_id, 151645);
    assert_true(c.norm_topk_prob);
    assert_false(c.tie_word_embeddings);
    assert_true(c.rms_norm_eps == 1e-6);
    assert_true(c.rope_theta == 1e6);
    assert_true(c.router_aux_loss_coef == 0.001);
    assert_int_equal(c.balance, HB_BALANCE_HF);
    assert_true(c.router_z_loss_coef == 0);
    assert_false(c.router_bias);
    assert_int_equal(hb_model_config_moe_layers(&c), 48);
}

static void reads_version_5(void **state)
{
    (void)state;
    struct hb_model_config c;
    OK(read_text(dialect5, &c));
    assert_int_equal(c.num_experts, 8);
    assert_true(c.rope_theta == 250000);
    assert_true(c.tie_word_embeddings);
    assert_false(c.norm_topk_prob); /* the class's default */
    assert_int_equal(c.bos_token_id, -1);
    assert_int_equal(c.eos_token_id, -1);
    /* Every second layer has experts, but layer 3 is named dense. */
    assert_false(hb_model_config_is_moe(&c, 0));
    assert_true(hb_model_config_is_moe(&c, 1));
    assert_false(hb_model_config_is_moe(&c, 2));
    assert_false(hb_model_config_is_moe(&c, 3));
    assert_int_equal(hb_model_config_moe_layers(&c), 1);
}

static void reads_dense(void **state)
{
    (void)state;
    struct hb_model_config c;
    OK(read_text(dense, &c));
    assert_int_equal(c.num_experts, 0);
    assert_int_equal(c.num_key_value_heads, 4);
    assert_true(c.rope_theta == 10000);
    assert_int_equal(hb_model_config_moe_layers(&c), 0);
    OK(read_with(dense, "head_dim", "20", &c));
    assert_int_equal(c.head_dim, 20);
    /* What the classes take for keys that are not there. */
    OK(read_with(dense, "head_dim", NULL, &c));
    assert_int_equal(c.head_dim, 128);
    REFUSED(read_with(dense, "num_key_value_heads", NULL, &c), HB_EARGUMENT, "num_key_value_heads (32)");
    OK(read_with(dialect5, "head_dim", NULL, &c));
    assert_int_equal(c.head_dim, 48 / 4);
    OK(read_with(dialect5, "num_key_value_heads", NULL, &c));
    assert_int_equal(c.num_key_value_heads, 4);
}

/* As transformers 5.23 reads them. */
static void reads_windows(void **state)
{
    (void)state;
    struct hb_model_config c;
    static const char own[] = "{\"attention_sinks\": 4, \"memory_slots\": 7, \"memory_combine\": \"gated\"}";
    OK(read_with(dense, "sliding_window", "8", &c)); /* not used */
    assert_int_equal(c.sliding_window, 0);
    static const struct {
        const char *keys;
        int64_t window;
        bool first, second;
    } cases[] = {
        {"\"use_sliding_window\": true", 4096, false, false}, /* max_window_layers is 28 */
        {"\"use_sliding_window\": true, \"sliding_window\": null, \"max_window_layers\": 0", 0, false, false},
        {"\"use_sliding_window\": true, \"sliding_window\": 8, \"max_window_layers\": 1", 8, false, true},
        {"\"use_sliding_window\": true, \"sliding_window\": 8, \"max_window_layers\": 1, \"layer_types\": "
         "[\"sliding_attention\", \"full_attention\"]",
         8, true, false},
        {"\"use_sliding_window\": false, \"sliding_window\": 8, \"max_window_layers\": 0", 0, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(
            text, sizeof text,
            "{\"model_type\": \"qwen3\", \"vocab_size\": 50, \"hidden_size\": 32, \"num_hidden_layers\": 2,"
            " \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"intermediate_size\": 64, %s}",
            cases[i].keys);
        OK(read_text(text, &c));
        assert_int_equal(c.sliding_window, cases[i].window);
        assert_int_equal(c.sliding_layer[0], cases[i].first);
        assert_int_equal(c.sliding_layer[1], cases[i].second);
    }
    assert_int_equal(read_with(dense, "layer_types", "[\"full_attention\", \"sliding_attention\"]", &c),
                     HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "layer_types[1]"));
    assert_int_equal(read_with(dense, "layer_types", "[\"full_attention\", \"chunked_attention\"]", &c),
                     HB_EUNSUPPORTED);
    assert_int_equal(read_with(dense, "hornbook", own, &c), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "attention_sinks"));
    assert_int_equal(read_with(dense, "hornbook", "{\"memory_combine\": \"sum\"}", &c), HB_EARGUMENT);
    assert_int_equal(read_with(dense, "hornbook", "{\"memory_combine\": \"max\"}", &c), HB_EFORMAT);
    /* All layers of a model with experts slide; its layer_types may not say otherwise. */
    assert_int_equal(read_with(dialect5, "use_sliding_window", "true", &c), HB_EUNSUPPORTED);
    assert_non_null(strstr(hb_error(), "layer_types[0]"));
    OK(read_with(dialect5, "layer_types", "null", &c));
    c.sliding_window = 9;
    hb_model_config_slide_from(&c, 0);
    c.attention_sinks = 4;
    c.memory_slots = 7;
    c.memory_combine = HB_GATED;
    char *text;
    struct hb_model_config again;
    OK(hb_model_config_text(&c, &text));
    OK(read_text(text, &again));
    free(text);
    assert_memory_equal(&c, &again, sizeof c);
}

static void refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        hb_status status;
        const char *message;
    } cases[] = {
        /* what changes the result and is not offered */
        {"model_type", "\"llama\"", HB_EUNSUPPORTED, "model_type \"llama\""},
        {"hidden_act", "\"gelu\"", HB_EUNSUPPORTED, "hidden_act"},
        {"attention_bias", "true", HB_EUNSUPPORTED, "attention_bias"},
        {"layer_types", "[\"full_attention\", \"sliding_attention\"]", HB_EFORMAT, "layer_types"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}", HB_EUNSUPPORTED, "rope_scaling"},
        {"rope_parameters", "{\"rope_type\": \"yarn\"}", HB_EUNSUPPORTED, "rope_type"},
        {"rope_parameters", "{\"partial_rotary_factor\": 0.5}", HB_EUNSUPPORTED, "partial_rotary_factor"},
        {"rope_parameters", "{\"type\": \"yarn\"}", HB_EUNSUPPORTED, "rope_type"},
        {"rope_parameters", "{\"rope_type\": \"default\", \"factor\": 4}", HB_EUNSUPPORTED,
         "rope_parameters.factor"},
        {"rope_parameters", "{\"full_attention\": {\"rope_theta\": 1e4}}", HB_EUNSUPPORTED,
         "rope_parameters.full_attention"},
        {"rope_scaling", "{\"rope_type\": \"linear\"}", HB_EUNSUPPORTED, "\"linear\" in rope_scaling"},
        {"rope_scaling", "\"linear\"", HB_EFORMAT, "rope_scaling"},
        {"partial_rotary_factor", "0.5", HB_EUNSUPPORTED, "partial_rotary_factor"},
        {"attention_dropout", "0.1", HB_EUNSUPPORTED, "attention_dropout"},
        {"quantization_config", "{\"bits\": 4}", HB_EUNSUPPORTED, "quantization_config"},
        {"auto_map", "{}", HB_EUNSUPPORTED, "auto_map"},
        {"hornbook", "{\"attention_sink\": 4}", HB_EUNSUPPORTED, "hornbook.attention_sink "},
        {"hornbook", "true", HB_EFORMAT, "hornbook"},
        {"hornbook", "{\"precision\": 16}", HB_EFORMAT, "hornbook.precision"},
        {"num_experts", "7", HB_EFORMAT, "num_experts is 7 and num_local_experts, the same thing, is 8"},
        {"pad_token_id", "97", HB_EFORMAT, "pad_token_id (97)"},
        {"pad_token_id", "-1", HB_EFORMAT, "pad_token_id (-1)"},
        /* missing, or of the wrong type */
        {"model_type", NULL, HB_EFORMAT, "model_type"},
        {"vocab_size", NULL, HB_EFORMAT, "vocab_size"},
        {"hidden_size", "\"48\"", HB_EFORMAT, "hidden_size"},
        {"num_hidden_layers", "2.5", HB_EFORMAT, "num_hidden_layers"},
        {"rope_parameters", "7", HB_EFORMAT, "rope_parameters"},
        {"mlp_only_layers", "[\"x\"]", HB_EFORMAT, "mlp_only_layers[0]"},
        {"mlp_only_layers", "[99999]", HB_EFORMAT, "mlp_only_layers[0]"},
        {"mlp_only_layers", "3", HB_EFORMAT, "mlp_only_layers must be a list"},
        {"norm_topk_prob", "1", HB_EFORMAT, "norm_topk_prob"},
        {"hornbook", "{\"balance\": \"luck\"}", HB_EFORMAT, "balance"},
        /* shapes that cannot be */
        {"vocab_size", "0", HB_EARGUMENT, "vocab_size"},
        {"num_hidden_layers", "5000", HB_EARGUMENT, "num_hidden_layers"},
        {"num_attention_heads", "0", HB_EARGUMENT, "num_attention_heads"},
        {"num_key_value_heads", "3", HB_EARGUMENT,
         "num_key_value_heads (3) must divide num_attention_heads (4)"},
        {"head_dim", "15", HB_EARGUMENT, "head_dim (15)"},
        {"num_experts_per_tok", "9", HB_EARGUMENT, "num_experts_per_tok (9)"},
        {"moe_intermediate_size", "0", HB_EARGUMENT, "moe_intermediate_size"},
        {"decoder_sparse_step", "0", HB_EARGUMENT, "decoder_sparse_step"},
        {"decoder_sparse_step", "9", HB_EARGUMENT, "no expert layer"},
        {"rms_norm_eps", "-1", HB_EARGUMENT, "rms_norm_eps"},
        {"intermediate_size", "0", HB_EARGUMENT, "intermediate_size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hb_model_config c;
        REFUSED(read_with(dialect5, cases[i].key, cases[i].value, &c), cases[i].status, cases[i].message);
        assert_non_null(strstr(hb_error(), "config.json"));
    }
    struct hb_model_config c;
    /* Nothing else than what is done anyway, or nothing that transformers does either. */
    OK(read_with(dialect5, "rope_scaling", "{\"type\": \"default\", \"rope_theta\": 5000}", &c));
    assert_true(c.rope_theta == 5000);
    OK(read_with(dialect5, "partial_rotary_factor", "1.0", &c));
    OK(read_with(dialect5, "attn_logit_softcapping", "30.0", &c)); /* with a warning */
    OK(read_with(dialect5, "pad_token_id", "96", &c));
    assert_int_equal(c.pad_token_id, 96);
    REFUSED(hb_model_config_read(scratch("nowhere.json"), &c), HB_EIO, "nowhere.json");
    REFUSED(read_text("{\"model_type\": \"qwen3\",", &c), HB_EFORMAT, "config.json:1");
    REFUSED(read_text("[]", &c), HB_EFORMAT, "object");
}

static void same(const struct hb_model_config *a, const struct hb_model_config *b)
{
    char *x, *y;
    OK(hb_model_config_text(a, &x));
    OK(hb_model_config_text(b, &y));
    assert_string_equal(x, y);
    free(x);
    free(y);
    assert_int_equal(a->balance, b->balance);
    assert_true(a->rope_theta == b->rope_theta && a->rms_norm_eps == b->rms_norm_eps);
    assert_memory_equal(a->dense_layer, b->dense_layer, sizeof a->dense_layer);
}

static void comes_back_as_written(void **state)
{
    (void)state;
    static const char *const texts[] = {dialect4, dialect5, dense};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct hb_model_config c, again;
        OK(read_text(texts[i], &c));
        c.pad_token_id = i == 0 ? 0 : -1;
        c.rms_norm_eps = 1.0 / 3 * 1e-6; /* 17 digits or it is another number */
        c.router_z_loss_coef = 0.1;
        if (c.num_experts) {
            c.balance = HB_BALANCE_BIAS;
            c.balance_bias_rate = 0.01;
            c.router_bias = true;
        }
        char *text;
        OK(hb_model_config_text(&c, &text));
        OK(read_text(text, &again));
        free(text);
        same(&c, &again);
        assert_true(again.router_z_loss_coef == 0.1);
        assert_int_equal(again.router_bias, c.router_bias);
        assert_int_equal(again.pad_token_id, c.pad_token_id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_version_4),       cmocka_unit_test(reads_version_5),
        cmocka_unit_test(reads_dense),           cmocka_unit_test(reads_windows),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(comes_back_as_written),
    };
    return cmocka_run_group_tests_name("model/config", tests, scratch_setup, scratch_teardown);
}
