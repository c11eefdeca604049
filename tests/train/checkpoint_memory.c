/* Memory runs out at any point while a checkpoint is saved, found, verified or loaded,
 * and while metrics are cut back to it: the n-th malloc, or all from the n-th on. One clear
 * error, nothing leaked, and what was saved stays whole. */
#include "core/failing_malloc.h"

#include "core/file_receipt.h"
#include "core/log.h"
#include "core/scratch.h"
#include "model/tiny.h"
#include "train/checkpoint.h"
#include "train/metrics.h"

#if OWN_MALLOC

static struct tiny tiny;
static struct hb_optimizer optimizer;
static struct hb_run_state state;
static char folder[256], tokenizer[256];
static char whole[40]; /* the manifest's hash of a step 2 that was saved in peace */

static hb_status save_step(int64_t step)
{
    state.attempted = step;
    return hb_checkpoint_save(folder, &optimizer, &state, tokenizer, 1);
}

static hb_status save(void)
{
    return save_step(2);
}

static void check_newest(const char *name)
{
    char path[4096];
    OK(hb_checkpoint_find(folder, path, sizeof path));
    assert_string_equal(strrchr(path, '/') + 1, name);
}

/* A save that failed leaves step 1 alone; one that did not made all of step 2. */
static void after_save(hb_status status)
{
    struct hb_file_receipt receipt;
    check_newest(status == HB_OK ? "step-00000002" : "step-00000001");
    if (status != HB_OK)
        return;
    OK(hb_file_receipt(scratch("run/checkpoints/step-00000002/manifest.json"), &receipt));
    assert_string_equal(receipt.hash, whole);
    OK(save_step(1));
    OK(hb_folder_remove(scratch("run/checkpoints/step-00000002"))); /* memory may have been out for pruning */
}

static hb_status load(void)
{
    struct hb_run_state read;
    return hb_checkpoint_load(scratch("run/checkpoints/step-00000001"), tiny.model, &optimizer, &read);
}

static hb_status find(void)
{
    char path[4096];
    HB_TRY(hb_checkpoint_find(folder, path, sizeof path));
    return strstr(path, "step-00000001") ? HB_OK : HB_FAIL(HB_EINTERNAL, "it found '%s'", path);
}

static hb_status verify(void)
{
    return hb_checkpoint_verify(scratch("run/checkpoints/step-00000001"));
}

static hb_status clean(void)
{
    return hb_checkpoint_clean(folder);
}

/* Only reads: the checkpoint is as it was. */
static void after_read(hb_status status)
{
    if (status == HB_OK)
        OK(load());
    assert_int_equal(scratch_count(scratch("run/checkpoints")), 2);
}

static const char lines[] = "{\"step\": 1, \"x\": \"a\"}\n{\"step\": 2}\n{\"step\": 3}\n";
static const size_t kept = 34; /* bytes of two of them */

static hb_status trim(void)
{
    return hb_metrics_trim(scratch("metrics.jsonl"), 2);
}

/* All lines, or those that are to stay; never fewer. */
static void after_trim(hb_status status)
{
    char *text;
    size_t size;
    OK(hb_file_read(scratch("metrics.jsonl"), &text, &size));
    assert_int_equal(size, status == HB_OK ? kept : sizeof lines - 1);
    assert_memory_equal(text, lines, size);
    free(text);
    scratch_write("metrics.jsonl", lines, sizeof lines - 1);
}

static int check(const char *label, hb_status (*run)(void), void (*after)(hb_status))
{
    int failures = 0;
    for (int64_t n = 1;; n += 1 + n / 16) {
        int64_t before = live;
        refusals = 0;
        countdown = n;
        hb_status status = run();
        countdown = 0;
        if (status != HB_OK && !strstr(hb_error(), "memory"))
            fail_msg("%s, malloc %lld: '%s' does not speak of memory", label, (long long)n, hb_error());
        if (live != before)
            fail_msg("%s, malloc %lld ('%s'): %lld blocks are not freed", label, (long long)n,
                     status == HB_OK ? "" : hb_error(), (long long)(live - before));
        after(status);
        if (refusals == 0) {
            assert_int_equal(status, HB_OK);
            return failures;
        }
        failures += status != HB_OK;
    }
}

static void test_all(void **unused)
{
    (void)unused;
    for (int turn = 0; turn < 2; turn++) {
        for_good = turn > 0;
        assert_true(check("save", save, after_save) > 50);
        assert_true(check("load", load, after_read) > 50);
        assert_true(check("find", find, after_read) > 10);
        assert_true(check("verify", verify, after_read) > 10);
        assert_true(check("clean", clean, after_read) > 0);
        assert_true(check("metrics", trim, after_trim) > 10);
    }
}

static int setup(void **unused)
{
    static const struct hb_optimizer_config config = {
        .schedule = {.peak = 3e-3, .warmup = 0.05, .final = 0.1, .updates = 100},
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .clip = 1,
    };
    if (scratch_setup(unused) != 0)
        return -1;
    hb_log_set_level(HB_LOG_ERROR); /* what cannot be cleaned up is a warning, and here on purpose */
    snprintf(folder, sizeof folder, "%s", scratch("run"));
    snprintf(tokenizer, sizeof tokenizer, "%s", scratch_write("tokenizer.json", "{\"a\": 1}", 8));
    struct hb_model_config c = tiny_config(3);
    OK(hb_precision_preset("mixed", &c.precision));
    tiny_open(&tiny, &c, true, 1);
    OK(hb_optimizer_init(&optimizer, tiny.model, &config));
    state = (struct hb_run_state){.seed = 7, .scale = 0.5, .spike_loss = {.count = 2, .value = {2.5, 2.25}}};
    struct hb_file_receipt receipt;
    OK(save_step(2));
    OK(hb_file_receipt(scratch("run/checkpoints/step-00000002/manifest.json"), &receipt));
    snprintf(whole, sizeof whole, "%s", receipt.hash);
    OK(save_step(1));
    scratch_write("metrics.jsonl", lines, sizeof lines - 1);
    return 0;
}

static int teardown(void **unused)
{
    hb_optimizer_release(&optimizer);
    tiny_close(&tiny);
    return scratch_teardown(unused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
#else
int main(void)
{
    printf("needs a malloc of its own: glibc, gcc, and no sanitizer\n");
    return 77;
}
#endif
