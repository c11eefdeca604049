/* Planned faults in training runs: what a loss scaler makes of them, what a
 * skipped step leaves alone, where a run ends, and what it says then. */
#include "train/faults.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/scratch.h"
#include "train/small_data.h"
#include "train/trainer.h"

enum { STEPS = 8 };

static int setup(void **state)
{
    hb_log_set_level(HB_LOG_ERROR);
    if (scratch_setup(state) != 0)
        return -1;
    small_tokenizer(scratch("tok"), "<|endoftext|>");
    small_shard(scratch("train"), 1, 30);
    return 0;
}

static struct hb_run_config config;

static hb_status load(const char *folder, const char *const *more, int count)
{
    char text[1024], run[300];
    const char *overrides[16] = {run};
    snprintf(
        text, sizeof text,
        "run_folder: x\nthreads: 1\n"
        "data: {train: %s, tokenizer: %s, sequence_length: 16}\n"
        "training: {steps: %d, microbatch: 2, accumulate: 2, learning_rate: 0.01, warmup: 0.3,\n"
        "           checkpoint_every: 4, keep_checkpoints: 9, tensorboard: false}\n"
        "model: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 24,\n"
        "        num_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 12, mlp_only_layers: [0],\n"
        "        balance: bias, balance_bias_rate: 0.01, max_position_embeddings: 64}\n",
        scratch("train"), scratch("tok"), STEPS);
    snprintf(run, sizeof run, "run_folder=%s", scratch(folder));
    for (int i = 0; i < count; i++)
        overrides[i + 1] = more[i];
    return hb_run_config_load(scratch_write("run.yaml", text, strlen(text)), overrides, count + 1, &config);
}

/* Runs, and says how it ended. */
static hb_status run(const char *folder, const char *const *more, int count, bool resume)
{
    static const volatile sig_atomic_t never;
    struct hb_trainer *trainer;
    OK(load(folder, more, count));
    OK(hb_trainer_create(&config, resume, &trainer));
    hb_status status = hb_trainer_run(trainer, &never);
    hb_trainer_destroy(trainer);
    hb_run_config_release(&config);
    return status;
}

struct line {
    char digest[HB_DIGEST_TEXT + 1];
    double loss, rate, scale; /* loss NaN: null */
    bool skipped, nonfinite;
};

static int read_lines(const char *folder, struct line lines[STEPS])
{
    char name[128], *text;
    size_t size;
    int count = 0;
    snprintf(name, sizeof name, "%s/metrics.jsonl", folder);
    OK(hb_file_read(scratch(name), &text, &size));
    for (size_t at = 0; at < size; count++) {
        json_t *json;
        const char *digest;
        size_t length = (size_t)((char *)memchr(text + at, '\n', size - at) - (text + at));
        struct line *l = &lines[count];
        assert_true(count < STEPS);
        memset(l, 0, sizeof *l);
        OK(hb_json_parse("metrics.jsonl", count + 1, text + at, length, 0, &json));
        OK(hb_json_string(json, "line", "digest", &digest));
        snprintf(l->digest, sizeof l->digest, "%s", digest);
        OK(hb_json_real_or(json, "line", "loss", (double)NAN, &l->loss));
        OK(hb_json_real(json, "line", "lr", &l->rate));
        OK(hb_json_real(json, "line", "loss_scale", &l->scale));
        OK(hb_json_bool(json, "line", "skipped", &l->skipped));
        OK(hb_json_bool(json, "line", "nonfinite", &l->nonfinite));
        json_decref(json);
        at += length + 1;
    }
    free(text);
    return count;
}

#define RUN(folder, ...) \
    run(folder, (const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), \
        false)

/* Overflows at steps 2 and 5 under apex with a growth after 2 clean steps. */
static void test_skipped_steps(void **state)
{
    (void)state;
    static const char *const rules[] = {"training.loss_scale={preset: apex, growth_interval: 2}",
                                        "faults=[{step: 2, kind: overflow, factor: 1e36}, {step: 5, kind: "
                                        "nan}, {step: 7, kind: overflow, factor: 4}]"};
    static const double scales[STEPS] = {65536, 65536, 32768, 32768, 65536, 32768, 32768, 65536};
    struct line lines[STEPS], again[STEPS];
    OK(run("skips", rules, 2, false));
    assert_int_equal(read_lines("skips", lines), STEPS);
    for (int s = 0; s < STEPS; s++) {
        bool fault = s == 1 || s == 4;
        assert_true(lines[s].scale == scales[s]);
        assert_int_equal(lines[s].skipped, fault);
        assert_int_equal(lines[s].nonfinite, fault);
        assert_int_equal(isnan(lines[s].loss), s == 4); /* an overflow is one of the gradients */
        if (s)
            assert_int_equal(strcmp(lines[s].digest, lines[s - 1].digest) == 0, fault);
        if (s && lines[s - 1].skipped) /* the learning rate's step stood still */
            assert_true(lines[s].rate == lines[s - 1].rate);
    }
    /* As if the process had died after step 7: scale and counters come from the checkpoint of step 4. */
    OK(run("dead", rules, 2, false));
    OK(hb_folder_remove(scratch("dead/checkpoints/step-00000008")));
    OK(run("dead", rules, 2, true));
    assert_int_equal(read_lines("dead", again), STEPS);
    for (int s = 0; s < STEPS; s++)
        assert_memory_equal(&lines[s], &again[s], sizeof lines[s]);
}

/* A skipped step leaves every byte of parameters, moments and selection bias; the
 * next one sees the next data, as if the skipped data had never been. */
static void test_skip_touches_nothing(void **state)
{
    (void)state;
    static const volatile sig_atomic_t never;
    struct hb_trainer *trainer;
    OK(load("untouched", (const char *const[]){"training.steps=3", "faults=[{step: 3, kind: nan}]"}, 2));
    OK(hb_trainer_create(&config, false, &trainer));
    trainer->config->steps = 2;
    OK(hb_trainer_run(trainer, &never));
    trainer->config->steps = 3;
    struct hb_model *model = trainer->model;
    char *before[3][128] = {{NULL}};
    assert_true(model->param_count <= 128);
    for (int turn = 0; turn < 2; turn++) {
        for (int64_t p = 0; p < model->param_count; p++) {
            struct hb_tensor *all[3] = {&model->params[p]->value, &model->params[p]->m, &model->params[p]->v};
            for (int k = 0; k < 3; k++) {
                if (!all[k]->data)
                    continue;
                char *now = malloc(hb_tensor_bytes(all[k]));
                assert_non_null(now);
                OK(hb_copy_out(&trainer->context, now, *all[k]));
                if (turn == 0) {
                    before[k][p] = now;
                    continue;
                }
                assert_memory_equal(before[k][p], now, hb_tensor_bytes(all[k]));
                free(before[k][p]);
                free(now);
            }
        }
        if (turn == 0)
            OK(hb_trainer_run(trainer, &never));
    }
    assert_int_equal(trainer->attempted, 3);
    assert_int_equal(trainer->optimizer.applied, 2);
    assert_int_equal(trainer->skips, 1);
    hb_trainer_destroy(trainer);
    hb_run_config_release(&config);
}

static void expect(hb_status status, const char *first, const char *second, const char *third)
{
    assert_int_equal(status, HB_ENONFINITE);
    const char *parts[] = {first, second, third};
    for (int i = 0; i < 3; i++)
        if (!strstr(hb_error(), parts[i]))
            fail_msg("'%s' does not say '%s'", hb_error(), parts[i]);
}

static void test_stop_names_the_tensor(void **state)
{
    (void)state;
    char stop[] = "training.stop_after_skips=3";
    struct line lines[STEPS];
    expect(RUN("poisoned", stop, "training.loss_scale=torch",
               "faults=[{step: 5, kind: weight, tensor: model.layers.1.self_attn.k_proj.weight}]"),
           "step 7: 3 steps in a row", "weights of model.layers.1.self_attn.k_proj.weight",
           "product reads in decoder 1, forward, microbatch 0; its element 0 is nan");
    assert_int_equal(read_lines("poisoned", lines), 6); /* the step at which it ended has no line */
    assert_true(hb_file_exists(scratch("poisoned/checkpoints/step-00000004/manifest.json")));
    expect(RUN("experts", stop,
               "faults=[{step: 1, kind: weight, tensor: 'model.layers.1.mlp.experts.*.down_proj.weight'}]"),
           "weights of model.layers.1.mlp.experts.0.down_proj.weight", "decoder 1", "forward");
    expect(RUN("expert", stop,
               "faults=[{step: 1, kind: weight, tensor: model.layers.1.mlp.experts.2.down_proj.weight}]"),
           "weights of model.layers.1.mlp.experts.2.down_proj.weight", "decoder 1", "its element 0 is nan");
    expect(RUN("inputs", stop, "faults=[{step: 1, kind: nan}, {step: 2, kind: nan}, {step: 3, kind: nan}]"),
           "weights of model.embed_tokens.weight", "embedding_forward reads in embedding, forward", "is nan");
    /* Never too small for the first gradient: dlogits = (p - y) 2^127 of a constant scale. */
    expect(RUN("too-much", stop, "training.loss_scale=2^127", "training.accumulate=1",
               "faults=[{step: 1, kind: overflow, factor: 1e3}, {step: 2, kind: overflow, factor: 1e3},"
               "{step: 3, kind: overflow, factor: 1e3}]"),
           "cross_entropy writes in head, forward", "microbatch 0", "loss scale was 1.70141e+38");
    expect(RUN("deepspeed", "training.loss_scale={preset: deepspeed, initial: 1}",
               "faults=[{step: 1, kind: weight, tensor: lm_head.weight}]"),
           "step 2: the loss scale is at its minimum", "weights of lm_head.weight", "head");
    assert_null(strstr(hb_error(), "stop_after_skips"));
    /* A spike is no tensor's fault. */
    expect(RUN("spikes", "training.stop_after_skips=1", "training.spikes={window: 3, loss: 8}",
               "training.learning_rate=0.1", "faults=[{step: 6, kind: spike}]"),
           "step 6: 1 steps in a row were skipped or not finite", "this one is a spike", "training.spikes");
    assert_null(strstr(hb_error(), "the first tensor"));
}

/* Found in no step, applied in none: what the article's code does with finite losses. */
static void test_literal_never_trains(void **state)
{
    (void)state;
    struct line lines[STEPS];
    expect(RUN("literal", "training.loss_scale=article-literal", "training.stop_after_skips=3",
               "faults=[{step: 4, kind: nan}]"),
           "step 6: 3 steps in a row were skipped or not finite", "is nan", "");
    assert_int_equal(read_lines("literal", lines), 5);
    for (int s = 0; s < 3; s++) {
        assert_false(lines[s].nonfinite);
        assert_true(lines[s].scale == ldexp(65536, s)); /* growing with nothing to show for it */
        assert_string_equal(lines[s].digest, lines[0].digest);
    }
    for (int s = 3; s < 5; s++) { /* NaN gradients are applied, and that is the end */
        assert_true(lines[s].nonfinite && !lines[s].skipped && isnan(lines[s].loss));
        assert_string_not_equal(lines[s].digest, lines[0].digest);
    }
}

/* Without the skip one gradient that is not finite is the end of the weights. */
static void test_no_guard(void **state)
{
    (void)state;
    struct line lines[STEPS];
    OK(RUN("open", "training.loss_scale={preset: none, skip: false}", "training.stop_after_skips=0",
           "faults=[{step: 3, kind: nan}]"));
    assert_int_equal(read_lines("open", lines), STEPS);
    for (int s = 0; s < STEPS; s++) {
        assert_int_equal(lines[s].nonfinite, s >= 2);
        assert_int_equal(isnan(lines[s].loss), s >= 2);
        assert_false(lines[s].skipped);
    }
}

static void test_spikes(void **state)
{
    (void)state;
    struct hb_spike_window w = {.count = 4, .value = {1, 2, 3, 6}};
    assert_true(hb_spike_z(&w, 5, 100) == 0);
    assert_true(fabs(hb_spike_z(&w, 4, 3 + 2 * sqrt(3.5)) - 2) < 1e-15); /* mean 3, sd sqrt(14 / 4) */
    w.value[1] = w.value[2] = w.value[3] = 1;
    assert_true(hb_spike_z(&w, 4, 100) == 0);
    struct hb_spikes s = {.rule = {.window = 3, .loss = 3}};
    static const double values[] = {1, 2, 3, 4, 9, 5, 5};
    static const bool spike[] = {false, false, false, false, true, false, false};
    for (int i = 0; i < 7; i++)
        assert_int_equal(hb_spikes_judge(&s, values[i], 1), spike[i]);
    assert_int_equal(s.loss.count, 3);
    assert_true(s.loss.value[0] == 9 && s.loss.value[2] == 5);

    static const char *const rules[] = {"training.spikes={window: 3, loss: 8}",
                                        "faults=[{step: 6, kind: spike}]", "training.learning_rate=0.1"};
    struct line lines[STEPS], again[STEPS];
    OK(run("spike", rules, 3, false));
    assert_int_equal(read_lines("spike", lines), STEPS);
    assert_true(lines[5].skipped && !lines[5].nonfinite && lines[5].loss > lines[4].loss);
    assert_string_equal(lines[5].digest, lines[4].digest);
    OK(run("spike-dead", rules, 3, false));
    OK(hb_folder_remove(scratch("spike-dead/checkpoints/step-00000008")));
    OK(run("spike-dead", rules, 3, true));
    assert_int_equal(read_lines("spike-dead", again), STEPS);
    assert_memory_equal(lines, again, sizeof lines);
}

static void refused(const char *override, const char *part)
{
    REFUSED(load("x", &override, 1), HB_EFORMAT, part);
}

static void test_refused(void **state)
{
    (void)state;
    refused("training.loss_scale=pytorch", "must be none, torch, megatron");
    refused("training.loss_scale=1000", "training.loss_scale: must be a power of two");
    refused("training.loss_scale={preset: torch, initial: 1000}",
            "training.loss_scale.initial: initial must be a power of two");
    refused("training.loss_scale={initial: 4}", "must be a preset");
    refused("training.loss_scale={preset: torch, window: 4}", "unknown option window");
    refused("training.loss_scale={preset: torch, growth_interval: often}",
            "growth_interval must be an integer");
    refused("training.loss_scale={preset: apex, initial: 2^30}", "must be from min (0) to max (1.67772e+07)");
    refused("training.stop_after_skips=-1", "at least 0");
    refused("training.spikes={window: 1, loss: 3}", "from 2 to 1024");
    refused("training.spikes={window: 10}", "needs a limit");
    refused("training.spikes={loss: -1}", "above 0");
    refused("training.spikes={z: 3}", "unknown key");
    refused("faults={step: 1, kind: nan}", "must be a list");
    refused("faults=[{step: 0, kind: nan}]", "from 1 to training.steps (8), got 0");
    refused("faults=[{step: 8, kind: nan}, {step: 9, kind: nan}]", "from 1 to training.steps (8), got 9");
    refused("faults=[{step: 1, kind: flood}]", "overflow, nan, spike or weight");
    refused("faults=[{step: 1}]", "step and kind");
    refused("faults=[{step: 1, kind: nan, factor: 3}]", "unknown key");
    refused("faults=[{step: 1, kind: weight}]", "needs the name of a tensor");
    /* Said before the first step, not at the one that was planned. */
    OK(load("nobody", (const char *const[]){"faults=[{step: 8, kind: weight, tensor: none.such}]"}, 1));
    struct hb_trainer *trainer;
    REFUSED(hb_trainer_create(&config, false, &trainer), HB_EARGUMENT,
            "faults: step 8: the model has no tensor none.such");
    hb_run_config_release(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skipped_steps),         cmocka_unit_test(test_skip_touches_nothing),
        cmocka_unit_test(test_stop_names_the_tensor), cmocka_unit_test(test_literal_never_trains),
        cmocka_unit_test(test_no_guard),              cmocka_unit_test(test_spikes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
