/* The run configuration: what is wrong in a file is said with its place; what
 * is right comes back from the resolved text as it was. */
#include "train/run_config.h"

#include "core/scratch.h"

static const char usual[] = "run_folder: runs/a\n"
                            "data:\n"
                            "  train: shards/text-train\n"
                            "  tokenizer: tok\n"
                            "training:\n"
                            "  steps: 100\n"
                            "model:\n"
                            "  hidden_size: 48\n"
                            "  num_hidden_layers: 3\n"
                            "  num_attention_heads: 4\n"
                            "  intermediate_size: 64\n";

static hb_status load_with(const char *text, const char *const *overrides, int count,
                           struct hb_run_config *config)
{
    return hb_run_config_load(scratch_write("run.yaml", text, strlen(text)), overrides, count, config);
}

static void refused(const char *text, const char *part)
{
    struct hb_run_config config;
    REFUSED(load_with(text, NULL, 0, &config), HB_EFORMAT, part);
}

/* The usual file with one line more at its end (in `model`). */
static void refused_line(const char *line, const char *part)
{
    char text[1024];
    snprintf(text, sizeof text, "%s  %s\n", usual, line);
    refused(text, part);
}

static void refused_override(const char *override, const char *part)
{
    struct hb_run_config config;
    REFUSED(load_with(usual, &override, 1, &config), HB_EFORMAT, part);
}

static void test_defaults(void **state)
{
    (void)state;
    struct hb_run_config c;
    OK(load_with(usual, NULL, 0, &c));
    assert_string_equal(c.run_folder, "runs/a");
    assert_int_equal(c.train_count, 1);
    assert_string_equal(c.train[0], "shards/text-train");
    assert_null(c.held_out);
    assert_null(c.init_from);
    assert_string_equal(c.backend, "cpu");
    assert_int_equal(c.numerics, HB_CANONICAL);
    assert_int_equal(c.numerics_version, HB_NUMERICS_VERSION);
    assert_true(c.shuffle && !c.cross_documents && c.tensorboard);
    assert_int_equal(c.steps, 100);
    assert_true(c.learning_rate == 3e-4 && c.warmup == 0.05 && c.final_rate == 0.1 && c.clip == 1);
    assert_int_equal(c.decay, HB_DECAY_MATRICES);
    assert_int_equal(c.model.vocab_size, 0);
    assert_int_equal(c.model.num_key_value_heads, 4); /* as many as there are heads */
    assert_int_equal(c.model.head_dim, 12);
    assert_int_equal(c.model.num_experts, 0);
    assert_int_equal(c.model.eos_token_id, -1);
    struct hb_optimizer_config o = hb_run_config_optimizer(&c);
    assert_true(o.schedule.peak == 3e-4 && o.schedule.updates == 100 && o.schedule.warmup == 0.05 &&
                o.schedule.final == 0.1);
    assert_true(o.beta1 == 0.9 && o.beta2 == 0.95 && o.eps == 1e-8 && o.weight_decay == 0.1 && o.clip == 1);
    c.model.vocab_size = 300;
    OK(hb_run_config_check_model(&c));
    hb_run_config_release(&c);
}

static void test_unknown_keys(void **state)
{
    (void)state;
    refused_line("hiden_size: 3",
                 "run.yaml:12: model.hiden_size: unknown key; did you mean model.hidden_size?");
    refused_line("learning_rate: 3",
                 "run.yaml:12: model.learning_rate: unknown key; did you mean training.learning_rate?");
    refused_line("zebra: 3", "run.yaml:12: model.zebra: unknown key");
    refused("run_folder: a\nmodell:\n  hidden_size: 3\n",
            "run.yaml:2: modell: unknown key; did you mean model?");
    refused_override("training.step=5",
                     "--set training.step: training.step: unknown key; did you mean training.steps?");
}

static void test_wrong_types(void **state)
{
    (void)state;
    refused_line("num_experts: two", "run.yaml:12: model.num_experts: must be an integer, got \"two\"");
    refused_line("num_experts: 2.5", "run.yaml:12: model.num_experts: must be an integer");
    refused_line("rope_theta: [1, 2]", "run.yaml:12: model.rope_theta");
    refused_line("tie_word_embeddings: 1", "run.yaml:12: model.tie_word_embeddings");
    refused_line("balance: often",
                 "run.yaml:12: model.balance: must be one of none, hf, layer, bias, got \"often\"");
    refused_line("mlp_only_layers: 1", "run.yaml:12: model.mlp_only_layers: must be a list of layer numbers");
    refused_line("mlp_only_layers: [0, 3]",
                 "run.yaml:12: model.mlp_only_layers.1: must be a layer from 0 to 2, got 3");
    refused_line("mlp_only_layers: [x]", "run.yaml:12: model.mlp_only_layers");
    refused("run_folder: a\ntraining: 3\n", "run.yaml:2: training: must be a map");
    refused_override("data.train={a: b}", "must be a shard prefix or a list");
    refused_override("data.train=[]", "must be a shard prefix or a list");
    refused_override("data.train=[[a]]", "data.train");
}

static void test_out_of_range(void **state)
{
    (void)state;
    refused_override("training.steps=0", "training.steps: must be at least 1");
    refused_override("training.warmup=1.5", "training.warmup: must be at least 0 and at most 1, got 1.5");
    refused_override("training.beta1=1", "training.beta1");
    refused_override("training.learning_rate=-1e-3", "training.learning_rate: must be at least 0");
    refused_override("training.learning_rate=.inf", "training.learning_rate");
    refused_override("training.learning_rate=.nan", "training.learning_rate");
    refused_override("threads=-1", "threads: must be at least 0");
    refused_override("numerics_version=2", "numerics_version");
    refused_override("data.sequence_length=0", "data.sequence_length");
}

static void test_missing(void **state)
{
    (void)state;
    refused("data:\n  train: a\n  tokenizer: b\ntraining:\n  steps: 3\n", "run_folder is missing");
    refused("run_folder: x\ndata:\n  train: a\n  tokenizer: b\n", "training.steps is missing");
    refused("run_folder: x\ndata:\n  tokenizer: b\ntraining:\n  steps: 3\n", "data.train");
    refused("", "is missing");
    struct hb_run_config config;
    REFUSED(hb_run_config_load(scratch("none.yaml"), NULL, 0, &config), HB_EIO, "none.yaml");
}

/* Shapes that cannot be, once the vocabulary is known; the place is the file's. */
static void impossible(const char *override, const char *part)
{
    static const char *const experts[] = {"model.num_experts=4", "model.moe_intermediate_size=8"};
    const char *overrides[] = {experts[0], experts[1], override};
    bool with_experts = strstr(override, "num_experts_per_tok") != NULL;
    struct hb_run_config c;
    OK(load_with(usual, with_experts ? overrides : &override, with_experts ? 3 : 1, &c));
    c.model.vocab_size = 300;
    REFUSED(hb_run_config_check_model(&c), HB_EARGUMENT, part);
    hb_run_config_release(&c);
}

static void test_windows(void **state)
{
    (void)state;
    struct hb_run_config c;
    char text[1024];
    refused_line("max_window_layers: 1", "run.yaml:12: model.max_window_layers: needs model.sliding_window");
    snprintf(text, sizeof text, "%s  sliding_window: 8\n  max_window_layers: 3\n", usual);
    refused(text, "run.yaml:13: model.max_window_layers: must be below model.num_hidden_layers (3)");
    static const char *const wide[] = {"model.sliding_window=1000", "model.attention_sinks=2000",
                                       "data.sequence_length=16", "model.max_window_layers=1"};
    OK(load_with(usual, wide, 4, &c));
    c.model.vocab_size = 300;
    OK(hb_run_config_check_model(&c));
    assert_true(!c.model.sliding_layer[0] && c.model.sliding_layer[1] && c.model.sliding_layer[2]);
    hb_run_config_release(&c);
    impossible("model.attention_sinks=4", "needs a sliding_window");
    impossible("model.memory_combine=gated", "memory_combine gated needs memory_slots");
}

static void test_impossible_shapes(void **state)
{
    (void)state;
    struct hb_run_config c;
    char text[1024];
    snprintf(text, sizeof text, "%s  num_key_value_heads: 3\n", usual);
    OK(load_with(text, NULL, 0, &c));
    c.model.vocab_size = 300;
    REFUSED(hb_run_config_check_model(&c), HB_EARGUMENT, "run.yaml:12: model: num_key_value_heads (3)");
    hb_run_config_release(&c);
    impossible("model.num_key_value_heads=3", "num_key_value_heads (3) must divide num_attention_heads (4)");
    impossible("model.head_dim=7", "head_dim (7) must be even");
    impossible("model.hidden_size=0", "hidden_size (0)");
    impossible("model.intermediate_size=0", "--set model.intermediate_size: model: intermediate_size (0)");
    impossible("model.num_experts=4", "moe_intermediate_size");
    impossible("model.num_experts_per_tok=5", "num_experts_per_tok (5) must be from 1 to num_experts (4)");
    impossible("model.num_experts_per_tok=0", "num_experts_per_tok (0)");
    impossible("model.router_bias=true", "router_bias needs experts");
    static const char *const nowhere[] = {"model.num_experts=4", "model.moe_intermediate_size=8",
                                          "model.num_experts_per_tok=2", "model.mlp_only_layers=[0, 1, 2]"};
    OK(load_with(usual, nowhere, 4, &c));
    c.model.vocab_size = 300;
    REFUSED(hb_run_config_check_model(&c), HB_EARGUMENT, "no expert layer");
    hb_run_config_release(&c);
}

static void test_overrides(void **state)
{
    (void)state;
    static const char *const overrides[] = {"training.steps=7",
                                            "model.num_experts=8",
                                            "training.steps=9",
                                            "data.train=[x, y]",
                                            "model.mlp_only_layers=[0, 2]",
                                            "data.held_out=z",
                                            "training.decay=all",
                                            "numerics=fast",
                                            "training.learning_rate=1e-5"};
    struct hb_run_config c;
    OK(load_with(usual, overrides, sizeof overrides / sizeof overrides[0], &c));
    assert_int_equal(c.steps, 9); /* the last one counts */
    assert_int_equal(c.model.num_experts, 8);
    assert_int_equal(c.train_count, 2);
    assert_string_equal(c.train[1], "y");
    assert_string_equal(c.held_out, "z");
    assert_true(c.model.dense_layer[0] && !c.model.dense_layer[1] && c.model.dense_layer[2]);
    assert_int_equal(c.decay, HB_DECAY_ALL);
    assert_int_equal(c.numerics, HB_FAST);
    assert_true(c.learning_rate == 1e-5);
    hb_run_config_release(&c);
}

/* The resolved text, read again, gives the same text, and every value. */
static void test_round_trip(void **state)
{
    (void)state;
    static const char *const overrides[] = {"run_folder=\"runs/with space: and #\"",
                                            "data.train=[x, \"y z\"]",
                                            "model.mlp_only_layers=[1]",
                                            "training.learning_rate=0.00123456789012345678",
                                            "training.adam_eps=1e-12",
                                            "model.balance=bias",
                                            "model.num_experts=6",
                                            "model.vocab_size=1234",
                                            "seed=9007199254740993",
                                            "data.shuffle=false"};
    struct hb_run_config c, again;
    char *text, *text_again;
    OK(load_with(usual, overrides, sizeof overrides / sizeof overrides[0], &c));
    OK(hb_run_config_text(&c, &text));
    assert_non_null(strstr(text, "precision: fp32"));
    assert_non_null(strstr(text, "loss_scale: none"));
    assert_non_null(strstr(text, "recompute: none"));
    OK(hb_run_config_load(scratch_write("again.yaml", text, strlen(text)), NULL, 0, &again));
    OK(hb_run_config_text(&again, &text_again));
    assert_string_equal(text, text_again);
    assert_string_equal(again.run_folder, "runs/with space: and #");
    assert_string_equal(again.train[1], "y z");
    assert_true(again.learning_rate == c.learning_rate && again.adam_eps == 1e-12);
    assert_true(again.seed == 9007199254740993);
    assert_false(again.shuffle);
    assert_memory_equal(&again.model, &c.model, sizeof c.model);
    free(text);
    free(text_again);
    hb_run_config_release(&c);
    hb_run_config_release(&again);
}

static void test_init_from(void **state)
{
    (void)state;
    static const char text[] = "run_folder: r\ninit_from: other/folder\ndata:\n  train: a\n  tokenizer: b\n"
                               "training:\n  steps: 3\n";
    struct hb_run_config c, again;
    char *resolved, both[512];
    OK(load_with(text, NULL, 0, &c));
    OK(hb_run_config_text(&c, &resolved));
    OK(load_with(resolved, NULL, 0, &again)); /* names no shape of its own */
    assert_string_equal(again.init_from, "other/folder");
    free(resolved);
    hb_run_config_release(&c);
    hb_run_config_release(&again);
    snprintf(both, sizeof both, "%smodel:\n  hidden_size: 8\n", text);
    refused(both, "run.yaml:8: model: init_from takes the model's shape from other/folder");
}

/* What a run may be continued with, and what not. */
static void same(const char *override, const char *part)
{
    char folder[300];
    struct hb_run_config c;
    char *text;
    snprintf(folder, sizeof folder, "run_folder=%s", scratch("run"));
    const char *overrides[] = {folder, override};
    OK(hb_folder_create(scratch("run")));
    OK(load_with(usual, overrides, 1, &c));
    OK(hb_run_config_text(&c, &text));
    scratch_write("run/config.yaml", text, strlen(text));
    free(text);
    hb_run_config_release(&c);
    OK(load_with(usual, overrides, override ? 2 : 1, &c));
    if (part)
        REFUSED(hb_run_config_same(&c), HB_EARGUMENT, part);
    else
        OK(hb_run_config_same(&c));
    hb_run_config_release(&c);
}

static void test_same(void **state)
{
    (void)state;
    same(NULL, NULL);
    same("threads=3", NULL);
    same("backend=ref", NULL);
    same("training.checkpoint_every=1", NULL);
    same("training.keep_checkpoints=9", NULL);
    same("training.evaluate_every=1", NULL);
    same("data.held_out=h", NULL);
    same("training.tensorboard=false", NULL);
    same("precision=fp32", NULL); /* what it is without the key */
    same("training.loss_scale=none", NULL);
    same("precision=bf16", "\"precision: fp32\", now it is \"precision: bf16\"");
    same("training.learning_rate=1e-3", "\"learning_rate: 0.0003\", now it is \"learning_rate: 0.001\"");
    same("training.steps=101", "steps: 101");
    same("training.microbatch=2", "microbatch: 2");
    same("seed=2", "seed: 2");
    same("numerics=fast", "numerics: fast");
    same("data.shuffle=false", "shuffle: false");
    same("data.train=[a]", "train: [a]");
    same("model.hidden_size=56", "hidden_size: 56");
}

static void test_recompute(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        enum hb_recompute_kind kind;
        int64_t every;
    } good[] = {
        {"training.recompute=none", HB_RECOMPUTE_NONE, 0},
        {"training.recompute=selective", HB_RECOMPUTE_SELECTIVE, 0},
        {"training.recompute=full", HB_RECOMPUTE_FULL, 0},
        {"training.recompute={every: 3}", HB_RECOMPUTE_EVERY, 3},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct hb_run_config c;
        OK(load_with(usual, &good[i].set, 1, &c));
        assert_int_equal(c.recompute.kind, good[i].kind);
        assert_int_equal(c.recompute.every, good[i].every);
        hb_run_config_release(&c);
    }
    refused_override("training.recompute=some", "must be none, selective, full, or a map");
    refused_override("training.recompute={each: 2}", "must be none, selective, full, or a map");
    refused_override("training.recompute={every: 0}", "at least 1");
    assert_true(hb_run_config_is_free("training.recompute"));
}

static void test_precision(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        struct hb_precision wanted;
    } good[] = {
        {"precision=fp32", {.communication = HB_STORED_AS_CLASS}},
        {"precision=bf16", {1, 1, 1, 1, HB_STORED_AS_CLASS, 0, false, false}},
        {"precision=fp16", {2, 2, 2, 2, HB_STORED_AS_CLASS, 0, false, false}},
        {"precision=mixed", {2, 2, 1, 1, HB_STORED_AS_CLASS, 0, false, false}},
        {"precision={activations: bf16, communication: fp16}", {0, 1, 0, 0, 2, 0, false, false}},
        {"precision={rounding: stochastic, masters: false, preset: bf16, param_grad: bf16}",
         {1, 1, 1, 1, HB_STORED_AS_CLASS, 1, true, true}},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct hb_run_config c, again;
        char *text;
        OK(load_with(usual, &good[i].set, 1, &c));
        for (int f = 0; f < HB_PRECISION_FIELDS; f++)
            assert_string_equal(hb_precision_value(&c.model.precision, f),
                                hb_precision_value(&good[i].wanted, f));
        OK(hb_run_config_text(&c, &text));
        OK(load_with(text, NULL, 0, &again));
        for (int f = 0; f < HB_PRECISION_FIELDS; f++)
            assert_string_equal(hb_precision_value(&again.precision, f),
                                hb_precision_value(&good[i].wanted, f));
        free(text);
        hb_run_config_release(&c);
        hb_run_config_release(&again);
    }
    refused_override("precision=fp8", "must be fp32, bf16, fp16, mixed or a map, got \"fp8\"");
    refused_override("precision=[bf16]", "must be fp32, bf16, fp16, mixed or a map");
    refused_override("precision={weight: bf16}", "\"weight\" is no field of precision");
    refused_override("precision={weights: int8}", "weights must be fp32, bf16 or fp16, got \"int8\"");
    refused_override("precision={param_grad: fp16}", "param_grad must be fp32 or bf16, got \"fp16\"");
    refused_override("precision={weights: class}", "weights must be fp32, bf16 or fp16");
    refused_override("precision={masters: false}", "masters false needs weights in bf16 or fp16");
    refused_override("precision={preset: bf16, rounding: stochastic}", "weights without masters");
    refused_override("precision={preset: bf16, masters: no}", "masters must be");
    assert_false(hb_run_config_is_free("precision"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_wrong_types), cmocka_unit_test(test_out_of_range),
        cmocka_unit_test(test_missing),     cmocka_unit_test(test_windows),
        cmocka_unit_test(test_impossible_shapes),
        cmocka_unit_test(test_overrides),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_init_from),   cmocka_unit_test(test_same),
        cmocka_unit_test(test_recompute),   cmocka_unit_test(test_precision),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
