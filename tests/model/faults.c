/* Memory runs out at any point of a step: one clear error, nothing is lost or
 * leaked, and the step that is tried again has the bits of one that never failed. */
#include "model/runs.h"

#include "cpu/select.h"

enum { MICROBATCHES = 2, ROWS = 9 };

static struct hb_recompute policy; /* of all runs of a test */

static void open_small(struct run *run, const struct run_shape *shape)
{
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    run_open(run, shape, cpu, 1, ROWS);
    run->model->recompute = policy;
}

static hb_status try_step(struct run *run, struct hb_step_report *report)
{
    struct run_data data;
    run_data_make(&data, 5, run->model->config.vocab_size, ROWS);
    hb_status status = hb_step(&run->stepper, data.batch, MICROBATCHES, 1, true, report);
    run_data_release(&data);
    return status;
}

/* Allocation n of the step fails. False: there are fewer. */
static bool fail_at(const struct run_shape *shape, int64_t n, const char *expected)
{
    struct run run;
    struct hb_step_report report;
    char before[HB_DIGEST_TEXT + 1], after[HB_DIGEST_TEXT + 1];
    open_small(&run, shape);
    TH_OK(hb_optimizer_digest(&run.optimizer, true, before));
    hb_memory_fail_at(n);
    hb_status status = try_step(&run, &report);
    hb_memory_fail_at(0);
    if (status != HB_OK) {
        assert_int_equal(status, HB_EMEMORY);
        assert_true(strstr(hb_error(), "memory") != NULL);
        assert_int_equal(run.stepper.tape.live_vars, 0);
        assert_int_equal(run.stepper.tape.pool.in_use, 0);
        TH_OK(hb_optimizer_digest(&run.optimizer, true, after));
        assert_string_equal(before, after);
        TH_OK(try_step(&run, &report));
    }
    assert_string_equal(report.digest, expected);
    run_close(&run);
    return status != HB_OK;
}

static void check_shape(const struct run_shape *shape)
{
    struct run run;
    struct hb_step_report report;
    open_small(&run, shape);
    TH_OK(try_step(&run, &report));
    run_close(&run);
    int failures = 0;
    for (int64_t n = 1; fail_at(shape, n, report.digest); n += 1 + n / 24)
        failures++;
    assert_true(failures > 20);
}

static void test_dense(void **state)
{
    (void)state;
    check_shape(&run_shapes[1]);
}

static void test_experts(void **state)
{
    (void)state;
    check_shape(&run_shapes[2]);
}

static void test_recompute(void **state)
{
    (void)state;
    policy.kind = HB_RECOMPUTE_SELECTIVE;
    check_shape(&run_shapes[2]);
    policy.kind = HB_RECOMPUTE_FULL;
    check_shape(&run_shapes[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dense), cmocka_unit_test(test_experts),
                                       cmocka_unit_test(test_recompute)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
