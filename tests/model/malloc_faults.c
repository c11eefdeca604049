/* The C library's memory runs out at any point: n-th malloc, for every n, while a
 * model is made, makes a step and is described. One clear error, nothing
 * leaked, and what was there goes on with the right bits. */
#include "core/failing_malloc.h"
#include "model/runs.h"

#include <jansson.h>
#include <stdio.h>

#include "ref/backend.h"

#if OWN_MALLOC
enum { MICROBATCHES = 2, ROWS = 9 };

static const struct run_shape *shape;
static char *described; /* its config.json */

static const struct hb_optimizer_config training = {
    .schedule = {.peak = 0.01, .warmup = 0.25, .final = 0.1, .updates = 8},
    .beta1 = 0.9,
    .beta2 = 0.95,
    .eps = 1e-8,
    .clip = 1,
};

/* Each does one thing from nothing and leaves nothing. */
static hb_status make(void)
{
    struct hb_context context;
    struct hb_model *model = NULL;
    struct hb_optimizer optimizer = {0};
    struct hb_stepper stepper = {0};
    hb_status status = hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context);
    if (status != HB_OK)
        return status;
    status = hb_model_create(&context, &shape->config, ROWS, true, &model);
    if (status == HB_OK) {
        status = hb_model_initialise(model, 1);
        if (status == HB_OK)
            status = hb_optimizer_init(&optimizer, model, &training);
        if (status == HB_OK)
            status = hb_stepper_init(&stepper, model, &optimizer, MICROBATCHES, ROWS);
        hb_stepper_release(&stepper);
        hb_optimizer_release(&optimizer);
        hb_model_destroy(model);
    }
    hb_context_close(&context);
    return status;
}

/* All of it or nothing. */
static hb_status describe(void)
{
    char *text;
    HB_TRY(hb_model_config_text(&shape->config, &text));
    int64_t left = countdown;
    countdown = 0; /* the comparison is not what is tested */
    json_t *a = json_loads(text, 0, NULL), *b = json_loads(described, 0, NULL);
    bool same = json_equal(a, b);
    json_decref(a);
    json_decref(b);
    free(text);
    countdown = left;
    return same ? HB_OK : HB_FAIL(HB_EINTERNAL, "config.json lacks something");
}

static void check(const char *label, hb_status (*run)(void))
{
    int64_t n = 1, failures = 0;
    for (;; n += 1 + n / 64) {
        int64_t before = live;
        countdown = n;
        hb_status status = run();
        bool reached = countdown == 0;
        countdown = 0;
        if (!reached) {
            TH_OK(status);
            break;
        }
        if (status != HB_OK) { /* a few may be survived: a hint, a cache */
            failures++;
            if (!strstr(hb_error(), "memory"))
                fail_msg("%s, malloc %lld: '%s' does not speak of memory", label, (long long)n, hb_error());
        }
        if (live != before)
            fail_msg("%s, malloc %lld ('%s'): %lld blocks are not freed", label, (long long)n,
                     status == HB_OK ? "" : hb_error(), (long long)(live - before));
    }
    if (failures < 5)
        fail_msg("%s: only %lld failures", label, (long long)failures);
}

static void test_life(void **state)
{
    (void)state;
    for (int i = 0; i < run_shape_count; i++) {
        shape = &run_shapes[i];
        TH_OK(make());
        check("make", make);
    }
}

static void test_description(void **state)
{
    (void)state;
    for (int i = 0; i < run_shape_count; i++) {
        shape = &run_shapes[i];
        TH_OK(hb_model_config_text(&shape->config, &described));
        check("config.json", describe);
        free(described);
    }
}

/* The step that is tried again has the bits of one that never failed. */
static void step_fails_at(int64_t n, const char *expected, bool *failed)
{
    struct run run;
    struct run_data data;
    struct hb_step_report report;
    run_open(&run, shape, &hb_backend_ref, 1, ROWS);
    run_data_make(&data, 5, run.model->config.vocab_size, ROWS);
    countdown = n;
    hb_status status = hb_step(&run.stepper, data.batch, MICROBATCHES, 1, true, &report);
    countdown = 0;
    *failed = status != HB_OK;
    if (*failed) {
        assert_int_equal(status, HB_EMEMORY);
        assert_true(strstr(hb_error(), "memory") != NULL);
        assert_int_equal(run.stepper.tape.live_vars, 0);
        assert_int_equal(run.stepper.tape.pool.in_use, 0);
    }
    if (status == HB_OK || run.optimizer.applied == 0) {
        if (*failed)
            TH_OK(hb_step(&run.stepper, data.batch, MICROBATCHES, 1, true, &report));
        if (expected)
            assert_string_equal(report.digest, expected);
    }
    run_data_release(&data);
    run_close(&run);
}

static void test_step(void **state)
{
    (void)state;
    for (int i = 1; i < 3; i++) {
        struct run run;
        struct run_data data;
        struct hb_step_report report;
        shape = &run_shapes[i];
        run_open(&run, shape, &hb_backend_ref, 1, ROWS);
        run_data_make(&data, 5, run.model->config.vocab_size, ROWS);
        TH_OK(hb_step(&run.stepper, data.batch, MICROBATCHES, 1, true, &report));
        run_data_release(&data);
        run_close(&run);
        int failures = 0, passed = 0;
        for (int64_t n = 1; passed < 2; n += passed ? 1 + n : 1) {
            bool failed;
            int64_t before = live;
            step_fails_at(n, report.digest, &failed);
            assert_int_equal(live, before);
            failures += failed;
            passed += !failed;
        }
        assert_true(failures > 15);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life), cmocka_unit_test(test_step),
                                       cmocka_unit_test(test_description)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    printf("needs a malloc of its own: glibc, gcc, and no sanitizer\n");
    return 77;
}
#endif
