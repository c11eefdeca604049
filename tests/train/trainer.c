/* Training runs: stopped anywhere and resumed they give the digests of a run
 * that was not; a folder belongs to one run and one process. */
#include "train/trainer.h"

#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "core/log.h"
#include "core/scratch.h"
#include "train/small_data.h"

enum { STEPS = 6, VOCABULARY = SMALL_VOCABULARY };

/* --- data: two shards --- */

static int setup(void **state)
{
    hb_log_set_level(HB_LOG_ERROR);
    if (scratch_setup(state) != 0)
        return -1;
    small_tokenizer(scratch("tok"), "<|endoftext|>");
    small_tokenizer(scratch("tok-without-end"), "<|other|>");
    small_shard(scratch("train"), 1, 30);
    small_shard(scratch("held-out"), 2, 8);
    return 0;
}

/* --- runs --- */

static struct hb_run_config config; /* one trainer at a time, but for the lock's test */

static void load_config(const char *folder, const char *const *more, int more_count, struct hb_run_config *c)
{
    char text[2048], run[300];
    const char *overrides[16] = {run};
    snprintf(
        text, sizeof text,
        "run_folder: x\nthreads: 1\n"
        "data: {train: %s, held_out: %s, tokenizer: %s, sequence_length: 16}\n"
        "training: {steps: %d, microbatch: 2, accumulate: 3, learning_rate: 0.01, warmup: 0.3,\n"
        "           checkpoint_every: 3, keep_checkpoints: 9, evaluate_every: 2, evaluate_samples: 5}\n"
        "model: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,\n"
        "        intermediate_size: 24, num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 12,\n"
        "        mlp_only_layers: [0], balance: bias, balance_bias_rate: 0.01, max_position_embeddings: "
        "64}\n",
        scratch("train"), scratch("held-out"), scratch("tok"), STEPS);
    snprintf(run, sizeof run, "run_folder=%s", scratch(folder));
    for (int i = 0; i < more_count; i++)
        overrides[i + 1] = more[i];
    OK(hb_run_config_load(scratch_write("run.yaml", text, strlen(text)), overrides, more_count + 1, c));
}

static struct hb_trainer *open_run(const char *folder, const char *const *more, int more_count, bool resume)
{
    struct hb_trainer *trainer;
    load_config(folder, more, more_count, &config);
    OK(hb_trainer_create(&config, resume, &trainer));
    return trainer;
}

static void close_run(struct hb_trainer *trainer)
{
    hb_trainer_destroy(trainer);
    hb_run_config_release(&config);
}

static void train(const char *folder, const char *const *more, int more_count, bool resume)
{
    static const volatile sig_atomic_t never;
    struct hb_trainer *trainer = open_run(folder, more, more_count, resume);
    OK(hb_trainer_run(trainer, &never));
    assert_int_equal(trainer->attempted, config.steps);
    assert_int_equal(trainer->saved_at, config.steps);
    close_run(trainer);
}

static void run_refused(const char *folder, const char *override, bool resume, hb_status code,
                        const char *part)
{
    struct hb_trainer *trainer = NULL;
    load_config(folder, &override, override ? 1 : 0, &config);
    REFUSED(hb_trainer_create(&config, resume, &trainer), code, part);
    assert_null(trainer);
    hb_run_config_release(&config);
}

/* What a line says besides the time it took. */
struct line {
    char digest[HB_DIGEST_TEXT + 1];
    double loss, norm, rate, held_out;
    int64_t tokens;
};

static int read_lines(const char *folder, struct line lines[], int most)
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
        assert_true(count < most);
        struct line *line = &lines[count];
        memset(line, 0, sizeof *line);
        OK(hb_json_parse("metrics.jsonl", count + 1, text + at, length, 0, &json));
        assert_int_equal(json_integer_value(json_object_get(json, "step")), count + 1);
        OK(hb_json_string(json, "line", "digest", &digest));
        snprintf(line->digest, sizeof line->digest, "%s", digest);
        OK(hb_json_real(json, "line", "loss", &line->loss));
        OK(hb_json_real(json, "line", "grad_norm", &line->norm));
        OK(hb_json_real(json, "line", "lr", &line->rate));
        OK(hb_json_real_or(json, "line", "held_out_loss", -1, &line->held_out));
        OK(hb_json_int(json, "line", "tokens", &line->tokens));
        json_decref(json);
        at += length + 1;
    }
    free(text);
    return count;
}

static void assert_same_run(const char *a, const char *b)
{
    struct line x[STEPS], y[STEPS];
    assert_int_equal(read_lines(a, x, STEPS), STEPS);
    assert_int_equal(read_lines(b, y, STEPS), STEPS);
    for (int s = 0; s < STEPS; s++)
        if (memcmp(&x[s], &y[s], sizeof x[s]) != 0)
            fail_msg("step %d: %s has digest %s and loss %.17g, %s has %s and %.17g", s + 1, a, x[s].digest,
                     x[s].loss, b, y[s].digest, y[s].loss);
}

/* As if the process had died after step 5: the last checkpoint is of step 3. */
static void lose_last_checkpoint(const char *folder)
{
    char name[128];
    snprintf(name, sizeof name, "%s/checkpoints/step-%08d", folder, STEPS);
    OK(hb_folder_remove(scratch(name)));
}

static void test_whole_run(void **state)
{
    (void)state;
    struct line lines[STEPS];
    train("whole", NULL, 0, false);
    assert_int_equal(read_lines("whole", lines, STEPS), STEPS);
    for (int s = 0; s < STEPS; s++) {
        assert_int_equal(lines[s].tokens, (s + 1) * 2 * 3 * 16);
        assert_int_equal(lines[s].held_out > 0, s % 2); /* after every second step */
        assert_true(lines[s].norm > 0 && lines[s].rate > 0);
        assert_true(s == 0 || strcmp(lines[s].digest, lines[s - 1].digest) != 0);
    }
    assert_true(fabs(lines[0].loss - log(VOCABULARY)) < 0.2); /* nothing is known yet */
    assert_true(lines[STEPS - 1].loss < lines[0].loss);
    assert_true(lines[STEPS - 1].held_out < lines[1].held_out);
    static const char *const files[] = {"config.yaml", "checkpoints/step-00000003/model.safetensors",
                                        "checkpoints/step-00000006/tokenizer.json",
                                        "checkpoints/latest/state.json"};
    for (int i = 0; i < 4; i++) {
        char name[128];
        snprintf(name, sizeof name, "whole/%s", files[i]);
        assert_true(hb_file_exists(scratch(name)));
    }
}

static void test_resumed(void **state)
{
    (void)state;
    train("halves", NULL, 0, false);
    lose_last_checkpoint("halves");
    struct hb_trainer *trainer = open_run("halves", NULL, 0, true);
    assert_int_equal(trainer->resumed_from, 3);
    assert_int_equal(trainer->optimizer.applied, 3);
    close_run(trainer);
    train("halves", NULL, 0, true);
    assert_same_run("whole", "halves");
    train("halves", NULL, 0, true); /* nothing is left to do */
    assert_same_run("whole", "halves");
}

/* Another number of threads, or another backend, continues the same run. */
static void test_resumed_elsewhere(void **state)
{
    (void)state;
    static const char *const elsewhere[] = {"threads=3", "backend=ref", "training.evaluate_samples=5"};
    train("elsewhere", NULL, 0, false);
    lose_last_checkpoint("elsewhere");
    train("elsewhere", elsewhere, 3, true);
    assert_same_run("whole", "elsewhere");
}

static void test_changed(void **state)
{
    (void)state;
    run_refused("whole", "training.learning_rate=0.02", true, HB_EARGUMENT, "learning_rate: 0.02");
    run_refused("whole", "training.accumulate=2", true, HB_EARGUMENT, "accumulate: 2");
    run_refused("whole", "model.num_experts_per_tok=1", true, HB_EARGUMENT, "num_experts_per_tok: 1");
    run_refused("whole", NULL, false, HB_EEXIST, "--resume");
    train("whole", NULL, 0, true); /* and none of that did harm */
}

/* Sets the flag when the run has written a line. */
struct stopper {
    volatile sig_atomic_t stop;
    char path[300];
};

static void *stop_soon(void *data)
{
    struct stopper *s = data;
    struct stat about;
    for (int i = 0; i < 20000; i++) {
        if (stat(s->path, &about) == 0 && about.st_size > 0)
            break;
        usleep(200);
    }
    s->stop = 1;
    return NULL;
}

static void test_stopped(void **state)
{
    (void)state;
    struct stopper stopper = {.stop = 1};
    pthread_t thread;
    snprintf(stopper.path, sizeof stopper.path, "%s/stopped/metrics.jsonl", scratch_folder);
    struct hb_trainer *trainer = open_run("stopped", NULL, 0, false);
    OK(hb_trainer_run(trainer, &stopper.stop)); /* before the first step */
    assert_int_equal(trainer->attempted, 0);
    assert_int_equal(trainer->saved_at, 0);
    close_run(trainer);
    stopper.stop = 0;
    trainer = open_run("stopped", NULL, 0, true);
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stopper), 0);
    OK(hb_trainer_run(trainer, &stopper.stop)); /* after some step */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(trainer->attempted >= 1);
    assert_int_equal(trainer->saved_at, trainer->attempted);
    close_run(trainer);
    train("stopped", NULL, 0, true);
    assert_same_run("whole", "stopped");
}

static void test_two_on_one_folder(void **state)
{
    (void)state;
    struct hb_run_config second;
    struct hb_trainer *other = NULL, *trainer = open_run("shared", NULL, 0, false);
    load_config("shared", NULL, 0, &second);
    REFUSED(hb_trainer_create(&second, false, &other), HB_EEXIST, "shared");
    REFUSED(hb_trainer_create(&second, true, &other), HB_EEXIST, "shared");
    assert_null(other);
    close_run(trainer);
    OK(hb_trainer_create(&second, false, &other)); /* the folder is free again */
    hb_trainer_destroy(other);
    hb_run_config_release(&second);
}

/* Resuming where nothing was saved begins at the beginning. */
static void test_nothing_to_resume(void **state)
{
    (void)state;
    train("fresh", NULL, 0, true);
    assert_same_run("whole", "fresh");
}

/* A run that starts from another one's weights, resumed after a crash and at its end, when those are gone. */
static void test_init_from(void **state)
{
    (void)state;
    static const volatile sig_atomic_t never;
    char from[512], link[512], yaml[2048], end[HB_DIGEST_TEXT + 1];
    struct hb_trainer *trainer;
    struct line before[STEPS];
    assert_int_equal(read_lines("whole", before, STEPS), STEPS);
    snprintf(from, sizeof from, "%s/whole/checkpoints/latest", scratch_folder);
    snprintf(link, sizeof link, "%s", scratch("origin"));
    assert_int_equal(symlink(from, link), 0);
    snprintf(
        yaml, sizeof yaml,
        "run_folder: %s\nthreads: 1\ninit_from: %s\n"
        "data: {train: %s, tokenizer: %s, sequence_length: 16}\n"
        "training: {steps: 4, microbatch: 2, checkpoint_every: 2, tensorboard: false, keep_checkpoints: 5}\n",
        scratch("tuned"), link, scratch("train"), scratch("tok"));
    for (int turn = 0; turn < 3; turn++) {
        OK(hb_run_config_load(scratch_write("tune.yaml", yaml, strlen(yaml)), NULL, 0, &config));
        OK(hb_trainer_create(&config, turn > 0, &trainer));
        if (turn == 0)
            assert_string_equal(trainer->digest,
                                before[STEPS - 1].digest); /* it starts where that run ended */
        OK(hb_trainer_run(trainer, &never));
        if (turn == 0)
            memcpy(end, trainer->digest, sizeof end);
        assert_string_equal(trainer->digest, end);
        close_run(trainer);
        if (turn == 0)
            OK(hb_folder_remove(scratch("tuned/checkpoints/step-00000004")));
        if (turn == 0)
            assert_int_equal(unlink(link), 0);
    }
}

static void test_wrong_data(void **state)
{
    (void)state;
    char override[400];
    run_refused("wrong", "model.vocab_size=256", false, HB_EARGUMENT,
                "--set model.vocab_size: model.vocab_size (256)");
    run_refused("wrong", "data.sequence_length=65", false, HB_EARGUMENT, "max_position_embeddings (64)");
    run_refused("wrong", "model.num_key_value_heads=3", false, HB_EARGUMENT,
                "num_key_value_heads (3) must divide");
    run_refused("wrong", "backend=ref64", false, HB_EARGUMENT, "ref64 cannot train");
    run_refused("wrong", "backend=abacus", false, HB_EARGUMENT, "abacus");
    run_refused("wrong", "data.train=nowhere", false, HB_EIO, "data.train: cannot open nowhere.idx");
    snprintf(override, sizeof override, "data.tokenizer=%s", scratch("nowhere"));
    run_refused("wrong", override, false, HB_EIO, "data.tokenizer: cannot open");
    snprintf(override, sizeof override, "data.tokenizer=%s", scratch("tok-without-end"));
    run_refused("wrong", override, false, HB_EARGUMENT, "<|endoftext|>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_run),         cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_resumed_elsewhere), cmocka_unit_test(test_changed),
        cmocka_unit_test(test_stopped),           cmocka_unit_test(test_two_on_one_folder),
        cmocka_unit_test(test_nothing_to_resume), cmocka_unit_test(test_init_from),
        cmocka_unit_test(test_wrong_data),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
