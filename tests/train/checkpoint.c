/* Checkpoints: a resumed run goes on with the same bits; damage of any kind is
 * seen; whatever interrupts a save, what was saved before stays whole. */
#define _GNU_SOURCE 1 /* memmem */
#include "train/checkpoint.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/json.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "core/scratch.h"
#include "model/tiny.h"
#include "model/weights.h"
#include "train/step.h"

struct run {
    struct tiny tiny;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
    struct hb_run_state state;
};

static void run_open(struct run *r, const struct hb_model_config *config, uint64_t seed)
{
    static const struct hb_optimizer_config optimizer = {
        .schedule = {.peak = 3e-3, .warmup = 0.05, .final = 0.1, .updates = 100},
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .weight_decay = 0.1,
        .clip = 1,
    };
    memset(r, 0, sizeof *r);
    tiny_open(&r->tiny, config, true, seed);
    OK(hb_optimizer_init(&r->optimizer, r->tiny.model, &optimizer));
    OK(hb_stepper_init(&r->stepper, r->tiny.model, &r->optimizer, 2, 20));
    r->state = (struct hb_run_state){.seed = 0xfedcba9876543210u, .scale = 0.1};
}

static void run_close(struct run *r)
{
    hb_stepper_release(&r->stepper);
    hb_optimizer_release(&r->optimizer);
    tiny_close(&r->tiny);
}

/* Step number state.attempted on data that follows from the number; its digest. */
static const char *advance(struct run *r)
{
    static struct hb_step_report report;
    static const int32_t segments[] = {0, 12, 20};
    int32_t ids[40], labels[40];
    struct hb_batch batches[2];
    uint32_t x = 77 + (uint32_t)r->state.attempted;
    for (int i = 0; i < 40; i++) {
        x = x * 1664525 + 1013904223;
        ids[i] = (int32_t)((x >> 16) % 61);
        labels[i] = (i % 7) ? (int32_t)((x >> 8) % 61) : -100;
    }
    for (int m = 0; m < 2; m++)
        batches[m] = (struct hb_batch){20, ids + 20 * m, labels + 20 * m, segments, 2};
    OK(hb_step(&r->stepper, batches, 2, 1, true, &report));
    r->state.attempted++;
    r->state.samples += 4;
    r->state.tokens += 40;
    return report.digest;
}

static hb_status save(struct run *r, const char *folder, const char *tokenizer, int keep)
{
    return hb_checkpoint_save(scratch(folder), &r->optimizer, &r->state, tokenizer, keep);
}

static const char *found(const char *folder)
{
    static char path[4096];
    OK(hb_checkpoint_find(scratch(folder), path, sizeof path));
    return path;
}

static void check_found(const char *folder, const char *name)
{
    const char *path = found(folder);
    const char *last = strrchr(path, '/');
    assert_non_null(last);
    assert_string_equal(last + 1, name);
}

/* Steps, a checkpoint, more steps; the same again from the checkpoint. */
static void goes_on_as_it_was(const struct hb_model_config *config, const char *folder)
{
    struct run whole, resumed;
    char digests[5][HB_DIGEST_TEXT + 1], path[4096];
    run_open(&whole, config, 1);
    for (int s = 1; s <= 4; s++) {
        memcpy(digests[s], advance(&whole), HB_DIGEST_TEXT + 1);
        if (s == 2)
            OK(save(&whole, folder, NULL, 1));
    }
    assert_string_not_equal(digests[2], digests[4]);

    run_open(&resumed, config, 99);
    snprintf(path, sizeof path, "%s", found(folder));
    OK(hb_checkpoint_load(path, resumed.tiny.model, &resumed.optimizer, &resumed.state));
    assert_int_equal(resumed.state.attempted, 2);
    assert_int_equal(resumed.state.applied, 2);
    assert_int_equal(resumed.optimizer.applied, 2);
    assert_int_equal(resumed.state.samples, 8);
    assert_int_equal(resumed.state.tokens, 80);
    assert_true(resumed.state.seed == 0xfedcba9876543210u);
    assert_true(resumed.state.scale == 0.1);
    assert_string_equal(resumed.state.digest, digests[2]);
    assert_string_equal(advance(&resumed), digests[3]);
    assert_string_equal(advance(&resumed), digests[4]);
    assert_true(tiny_equal(whole.tiny.model, resumed.tiny.model));
    /* Moments too: their files agree. */
    OK(save(&whole, "compare-a", NULL, 1));
    OK(save(&resumed, "compare-b", NULL, 1));
    char *a, *b;
    size_t size;
    OK(hb_file_read(scratch("compare-a/checkpoints/step-00000004/manifest.json"), &a, &size));
    OK(hb_file_read(scratch("compare-b/checkpoints/step-00000004/manifest.json"), &b, &size));
    assert_string_equal(a, b);
    free(a);
    free(b);
    run_close(&whole);
    run_close(&resumed);
}

static void resumes_with_the_same_bits(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    goes_on_as_it_was(&c, "dense");
    c.tie_word_embeddings = true;
    goes_on_as_it_was(&c, "tied");
    c = tiny_config(4);
    goes_on_as_it_was(&c, "experts");
    c.balance = HB_BALANCE_BIAS;
    c.balance_bias_rate = 0.01;
    c.router_bias = true;
    c.router_z_loss_coef = 0.001;
    goes_on_as_it_was(&c, "biases");
    static const char *const presets[] = {"bf16", "fp16", "mixed"};
    for (int i = 0; i < 3; i++) {
        OK(hb_precision_preset(presets[i], &c.precision));
        goes_on_as_it_was(&c, presets[i]);
    }
    c.precision.no_masters = c.precision.stochastic = true;
    c.precision.param_grad = HB_STORED_BF16;
    goes_on_as_it_was(&c, "stochastic");
}

/* --- content --- */

static const char *const files[] = {
    "model.safetensors", "config.json",    "optimizer-00000-of-00001.safetensors",
    "state.json",        "tokenizer.json", "tokenizer_config.json",
    "manifest.json"};
enum { FILES = sizeof files / sizeof *files };

static void same_file(const char *a, const char *b)
{
    struct hb_file_receipt x, y;
    OK(hb_file_receipt(a, &x));
    OK(hb_file_receipt(b, &y));
    assert_string_equal(x.hash, y.hash);
}

static void holds_what_readers_need(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct run r;
    run_open(&r, &c, 1);
    OK(hb_folder_create(scratch("tok")));
    scratch_write("tok/tokenizer.json", "{\"a\": 1}", 8);
    scratch_write("tok/tokenizer_config.json", "{\"b\": 2}", 8);
    scratch_write("alone.json", "{\"c\": 3}", 8);
    char tokenizer[256];

    snprintf(tokenizer, sizeof tokenizer, "%s", scratch("tok"));
    OK(save(&r, "content", tokenizer, 1));
    char folder[256];
    snprintf(folder, sizeof folder, "%s", scratch("content/checkpoints/step-00000000"));
    assert_string_equal(found("content"), folder);
    assert_int_equal(scratch_count(folder), FILES);
    assert_int_equal(scratch_count(scratch("content/checkpoints")), 2);
    same_file(scratch("tok/tokenizer.json"), scratch("content/checkpoints/latest/tokenizer.json"));
    same_file(scratch("tok/tokenizer_config.json"),
              scratch("content/checkpoints/latest/tokenizer_config.json"));
    OK(hb_checkpoint_verify(scratch("content/checkpoints/latest")));

    snprintf(tokenizer, sizeof tokenizer, "%s", scratch("tok/tokenizer.json"));
    r.state.attempted = 1;
    OK(save(&r, "content", tokenizer, 1));
    same_file(scratch("tok/tokenizer_config.json"),
              scratch("content/checkpoints/latest/tokenizer_config.json"));

    snprintf(tokenizer, sizeof tokenizer, "%s", scratch("alone.json"));
    r.state.attempted = 2;
    OK(save(&r, "content", tokenizer, 1));
    same_file(scratch("alone.json"), scratch("content/checkpoints/latest/tokenizer.json"));
    json_t *config;
    OK(hb_json_load(scratch("content/checkpoints/latest/tokenizer_config.json"), 0, &config));
    assert_string_equal(json_string_value(json_object_get(config, "tokenizer_class")),
                        "PreTrainedTokenizerFast");
    json_decref(config);
    REFUSED(save(&r, "content", "/nowhere/tokenizer.json", 1), HB_EIO, "/nowhere/tokenizer.json");

    /* Weights alone, as generation wants them. */
    struct tiny plain;
    tiny_open(&plain, &c, false, 5);
    OK(hb_model_load(plain.model, scratch("content/checkpoints/latest")));
    assert_true(tiny_equal(plain.model, r.tiny.model));
    tiny_close(&plain);

    struct hb_safetensors *moments;
    struct hb_safetensors_tensor t;
    OK(hb_safetensors_open(scratch("content/checkpoints/latest/optimizer-00000-of-00001.safetensors"),
                           &moments));
    OK(hb_safetensors_find(moments, "v.model.layers.1.mlp.experts.3.down_proj.weight", &t));
    assert_int_equal(t.rank, 1);
    assert_int_equal(t.count, 24 * 16);
    assert_non_null(strstr(hb_safetensors_metadata(moments, "ranges"), "\"model.norm.weight\":[0,24]"));
    hb_safetensors_close(moments);
    run_close(&r);
}

/* --- damage --- */

static void flip(const char *path, long offset, int bits)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    fputc(byte ^ bits, file);
    assert_int_equal(fclose(file), 0);
}

static void sees_every_damage(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct run r, other, untouched;
    run_open(&r, &c, 1);
    run_open(&other, &c, 2);
    run_open(&untouched, &c, 2);
    OK(hb_folder_create(scratch("tok")));
    scratch_write("tok/tokenizer.json", "{\"a\": 1}", 8);
    char tokenizer[256], folder[256], path[512];
    snprintf(tokenizer, sizeof tokenizer, "%s", scratch("tok"));
    OK(save(&r, "damage", tokenizer, 0));
    advance(&r);
    OK(save(&r, "damage", tokenizer, 0));
    snprintf(folder, sizeof folder, "%s", scratch("damage/checkpoints/step-00000001"));
    check_found("damage", "step-00000001");

    for (int f = 0; f < FILES; f++) {
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", folder, files[f]);
        assert_int_equal(stat(path, &info), 0);
        for (int k = 0; k <= 8; k++) {
            long offset = (long)(info.st_size - 1) * k / 8;
            flip(path, offset, 1);
            REFUSED(hb_checkpoint_load(folder, other.tiny.model, &other.optimizer, &other.state), HB_EFORMAT,
                    files[f]);
            assert_non_null(strstr(hb_error(), folder));
            check_found("damage", "step-00000000");
            flip(path, offset, 1);
        }
        /* truncated, longer, missing */
        char moved[520];
        snprintf(moved, sizeof moved, "%s.away", path);
        char *data;
        size_t size;
        OK(hb_file_read(path, &data, &size));
        OK(hb_file_write(path, data, size - 2)); /* the last byte of JSON is a line end */
        REFUSED(hb_checkpoint_verify(folder), HB_EFORMAT, files[f]);
        OK(hb_file_write(path, data, 0));
        REFUSED(hb_checkpoint_verify(folder), HB_EFORMAT, files[f]);
        OK(hb_file_write(path, data, size + 1)); /* with the NUL that a read adds */
        REFUSED(hb_checkpoint_verify(folder), HB_EFORMAT, files[f]);
        assert_int_equal(rename(path, moved), 0);
        REFUSED(hb_checkpoint_verify(folder), HB_EFORMAT, files[f]);
        check_found("damage", "step-00000000");
        unlink(moved);
        OK(hb_file_write(path, data, size));
        free(data);
        check_found("damage", "step-00000001");
    }
    assert_true(tiny_equal(other.tiny.model, untouched.tiny.model));

    /* Nothing whole: nobody is to start anew in silence. */
    char none[4096];
    flip(scratch("damage/checkpoints/step-00000000/model.safetensors"), 5000, 1);
    flip(scratch("damage/checkpoints/step-00000001/state.json"), 20, 1);
    REFUSED(hb_checkpoint_find(scratch("damage"), none, sizeof none), HB_EFORMAT,
            "none of the 2 checkpoints");
    OK(hb_checkpoint_find(scratch("no-such-run"), none, sizeof none));
    assert_string_equal(none, "");
    run_close(&r);
    run_close(&other);
    run_close(&untouched);
}

/* Replaces `from` by `to`, of equal length, where it first stands in a file. */
static void replace(const char *path, const char *from, const char *to)
{
    char *data;
    size_t size;
    OK(hb_file_read(path, &data, &size));
    char *place = memmem(data, size, from, strlen(from));
    assert_non_null(place);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(place, to, strlen(to));
    OK(hb_file_write(path, data, size));
    free(data);
}

/* The same in a file of a checkpoint, with the manifest mended: what a careless
 * hand leaves, or another release. */
static void forge(const char *folder, const char *name, const char *from, const char *to)
{
    char path[512], manifest[512];
    struct hb_file_receipt before, after;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", folder);
    OK(hb_file_receipt(path, &before));
    replace(path, from, to);
    OK(hb_file_receipt(path, &after));
    replace(manifest, before.hash, after.hash);
    OK(hb_checkpoint_verify(folder));
}

static void refuses_what_is_not_its_own(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct run r, other, untouched;
    run_open(&r, &c, 1);
    run_open(&other, &c, 2);
    run_open(&untouched, &c, 2);
    advance(&r);
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("foreign/checkpoints/latest"));

    static const char moments[] = "optimizer-00000-of-00001.safetensors";
    static const struct {
        const char *name, *from, *to;
        hb_status status;
        const char *message;
    } forged[] = {
        {"state.json", "\"numerics_version\": 1", "\"numerics_version\": 9", HB_EUNSUPPORTED,
         "numerics version 9"},
        {"state.json", "\"attempted\"", "\"attemptes\"", HB_EFORMAT, "'attempted' is missing"},
        {"state.json", "\"applied\": 1", "\"applied\":-1", HB_EFORMAT, "'applied' must not be negative"},
        {"state.json", "\"scale\": 0.1", "\"scale\":-0.1", HB_EFORMAT, "'scale' must be above 0"},
        {"state.json", "\"digest\": \"", "\"digist\": \"", HB_EFORMAT, "'digest' is missing"},
        {"config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": 20000.0", HB_EARGUMENT,
         "20000.0 for rope_theta"},
        {"config.json", "\"norm_topk_prob\": true", "\"norm_topk_prob\": null", HB_EARGUMENT,
         "norm_topk_prob"},
        {moments, "[0,24]", "[1,24]", HB_ESHAPE, "as its range [1, 24] says"},
        {moments, "\"m.lm_head.weight\"", "\"m.lm_tail.weight\"", HB_EFORMAT, "no tensor 'm.lm_head.weight'"},
        {moments, "\"ranges\"", "\"Ranges\"", HB_EFORMAT, "no 'ranges'"},
        {"model.safetensors", "\"lm_head.weight\"", "\"lm_tail.weight\"", HB_EFORMAT,
         "no tensor 'lm_head.weight'"},
    };
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        OK(save(&r, "foreign", NULL, 1));
        forge(path, forged[i].name, forged[i].from, forged[i].to);
        REFUSED(hb_checkpoint_load(path, other.tiny.model, &other.optimizer, &other.state), forged[i].status,
                forged[i].message);
    }
    assert_true(tiny_equal(other.tiny.model, untouched.tiny.model));

    /* Weights that are not those of the digest. */
    char digest[HB_DIGEST_TEXT + 1];
    OK(hb_optimizer_digest(&r.optimizer, true, digest));
    OK(save(&r, "foreign", NULL, 1));
    forge(path, "state.json", digest, "00000000000000000000000000000000");
    REFUSED(hb_checkpoint_load(path, other.tiny.model, &other.optimizer, &other.state), HB_EINTERNAL, digest);
    run_close(&r);
    run_close(&other);
    run_close(&untouched);
}

/* --- the folder of checkpoints --- */

static hb_status save_at(struct run *r, const char *folder, int64_t step, int keep)
{
    r->state.attempted = step;
    return save(r, folder, NULL, keep);
}

static void keeps_the_newest(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    struct run r;
    run_open(&r, &c, 1);
    REFUSED(save_at(&r, "newest", -1, 1), HB_EARGUMENT, "-1");
    for (int64_t step = 100; step <= 500; step += 100)
        OK(save_at(&r, "newest", step, 0));
    assert_int_equal(scratch_count(scratch("newest/checkpoints")), 5 + 1);
    OK(save_at(&r, "newest", 600, 2));
    assert_int_equal(scratch_count(scratch("newest/checkpoints")), 2 + 1);
    assert_true(hb_file_is_folder(scratch("newest/checkpoints/step-00000500")));
    check_found("newest", "step-00000600");
    OK(save_at(&r, "newest", 123456789012, 1));
    assert_int_equal(scratch_count(scratch("newest/checkpoints")), 1 + 1);
    check_found("newest", "step-123456789012");

    /* Folders of other names are not ours. */
    OK(hb_folder_create(scratch("newest/checkpoints/step-5")));
    OK(hb_folder_create(scratch("newest/checkpoints/step-00000005x")));
    OK(hb_folder_create(scratch("newest/checkpoints/step-99999999999999999999999")));
    OK(save_at(&r, "newest", 7, 1));
    assert_int_equal(scratch_count(scratch("newest/checkpoints")), 1 + 1 + 3);
    check_found("newest", "step-00000007");
    run_close(&r);
}

static void follows_latest(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    struct run r;
    run_open(&r, &c, 1);
    for (int64_t step = 1; step <= 3; step++)
        OK(save_at(&r, "rewind", step, 0));
    /* Taken back to step 1 by hand: the steps behind it are of another future. */
    char latest[256];
    snprintf(latest, sizeof latest, "%s", scratch("rewind/checkpoints/latest"));
    unlink(latest);
    check_found("rewind", "step-00000003");
    assert_int_equal(symlink("step-00000001", latest), 0);
    check_found("rewind", "step-00000001");
    OK(save_at(&r, "rewind", 2, 2));
    check_found("rewind", "step-00000002");
    assert_false(hb_file_exists(scratch("rewind/checkpoints/step-00000003")));
    assert_true(hb_file_exists(scratch("rewind/checkpoints/step-00000001")));

    /* The same number again, over a damaged one. */
    flip(scratch("rewind/checkpoints/step-00000002/model.safetensors"), 3000, 1);
    check_found("rewind", "step-00000001");
    OK(save_at(&r, "rewind", 2, 2));
    check_found("rewind", "step-00000002");
    run_close(&r);
}

static void cleans_up_leftovers(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    struct run r;
    char from[256], to[256];
    run_open(&r, &c, 1);
    OK(hb_checkpoint_clean(scratch("leftovers"))); /* there is nothing yet */
    OK(save_at(&r, "leftovers", 1, 0));
    OK(save_at(&r, "leftovers", 2, 0));
    OK(hb_folder_create(scratch("leftovers/checkpoints/.step-00000003.tmp")));
    OK(hb_folder_create(scratch("leftovers/checkpoints/.step-00000000.gone")));
    scratch_write("leftovers/checkpoints/.step-00000003.tmp/model.safetensors.tmp77", "half", 4);
    assert_int_equal(symlink("step-00000003", scratch("leftovers/checkpoints/.latest.tmp")), 0);
    check_found("leftovers", "step-00000002");
    OK(hb_checkpoint_clean(scratch("leftovers")));
    assert_int_equal(scratch_count(scratch("leftovers/checkpoints")), 2 + 1);
    check_found("leftovers", "step-00000002");

    /* Stopped after the old one of this number was put aside: it comes back. */
    snprintf(from, sizeof from, "%s", scratch("leftovers/checkpoints/step-00000002"));
    snprintf(to, sizeof to, "%s", scratch("leftovers/checkpoints/.step-00000002.old"));
    assert_int_equal(rename(from, to), 0);
    OK(hb_checkpoint_clean(scratch("leftovers")));
    check_found("leftovers", "step-00000002");
    /* Stopped after the new one had its name: the old one goes. */
    OK(hb_folder_create(to));
    OK(hb_checkpoint_clean(scratch("leftovers")));
    check_found("leftovers", "step-00000002");
    assert_int_equal(scratch_count(scratch("leftovers/checkpoints")), 2 + 1);
    run_close(&r);
}

static void survives_a_full_disk(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct run r;
    run_open(&r, &c, 1);
    OK(save_at(&r, "full", 1, 1));
    /* From nothing at all up to all but the last bytes of the largest file. */
    struct stat info;
    assert_int_equal(stat(scratch("full/checkpoints/latest/optimizer-00000-of-00001.safetensors"), &info), 0);
    rlim_t limits[] = {1, 500, 3000, 20000, (rlim_t)info.st_size - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        scratch_limit_files(limits[i]);
        hb_status status = save_at(&r, "full", 2, 1);
        scratch_limit_files(0);
        REFUSED(status, HB_EIO, "step 2 is not saved");
        assert_non_null(strstr(hb_error(), "free some space"));
        assert_int_equal(scratch_count(scratch("full/checkpoints")), 2);
        check_found("full", "step-00000001");
        /* Over itself too. */
        scratch_limit_files(limits[i]);
        status = save_at(&r, "full", 1, 1);
        scratch_limit_files(0);
        REFUSED(status, HB_EIO, "step 1 is not saved");
        check_found("full", "step-00000001");
    }
    OK(save_at(&r, "full", 2, 1));
    check_found("full", "step-00000002");
    run_close(&r);
}

/* A process that saves and saves is killed at some moment; whenever that is,
 * what is found afterwards is whole and loads. */
static void survives_kill(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct run r, other;
    char path[4096];
    run_open(&r, &c, 1);
    run_open(&other, &c, 2);
    OK(save_at(&r, "killed", 0, 1));
    for (int round = 0; round < 30; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int64_t step = round;; step++)
                for (int again = 0; again < 2; again++)
                    if (save_at(&r, "killed", step, 1) != HB_OK)
                        _exit(1);
        }
        usleep(1000 * (useconds_t)(1 + round * 37 % 60));
        int code;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_true(WIFSIGNALED(code));
        OK(hb_checkpoint_clean(scratch("killed")));
        OK(hb_checkpoint_find(scratch("killed"), path, sizeof path));
        assert_string_not_equal(path, "");
        OK(hb_checkpoint_load(path, other.tiny.model, &other.optimizer, &other.state));
        assert_true(tiny_equal(r.tiny.model, other.tiny.model));
    }
    run_close(&r);
    run_close(&other);
}

int main(void)
{
    hb_log_set_level(HB_LOG_ERROR); /* damage is a warning, and here on purpose */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes_with_the_same_bits),
        cmocka_unit_test(holds_what_readers_need),
        cmocka_unit_test(sees_every_damage),
        cmocka_unit_test(refuses_what_is_not_its_own),
        cmocka_unit_test(keeps_the_newest),
        cmocka_unit_test(follows_latest),
        cmocka_unit_test(cleans_up_leftovers),
        cmocka_unit_test(survives_a_full_disk),
        cmocka_unit_test(survives_kill),
    };
    return cmocka_run_group_tests_name("train/checkpoint", tests, scratch_setup, scratch_teardown);
}
