/* Every golden case passes on every backend, level and number of threads, and
 * every op has golden cases. */
#include "verify/support.h"

#include "cpu/select.h"
#include "ops/table.h"

static struct hb_case_list list;

static int setup(void **state)
{
    char folder[4096];
    (void)state;
    return hb_case_list_init(&list, in_source("golden/ops", folder, sizeof folder));
}

static int teardown(void **state)
{
    (void)state;
    hb_case_list_release(&list);
    return 0;
}

/* All cases on one context; how many were covered. */
static int run_all(struct hb_context *subject, const char *name)
{
    struct hb_context ref;
    int covered = 0, failed = 0;
    open_backend("ref", HB_CANONICAL, &ref);
    for (int i = 0; i < list.count; i++) {
        struct hb_case c;
        struct hb_verdict v;
        OK(hb_case_open(list.paths[i], &c));
        OK(hb_verify_case(&c, subject, &ref, &v));
        covered += v.covered;
        failed += !v.passed;
        if (!v.passed)
            print_error("%s on %s (%s): %s\n", list.paths[i], name, c.label, v.problem);
        if (v.covered && subject->numerics == HB_CANONICAL)
            assert_true(v.same_bits);
        hb_case_close(&c);
    }
    hb_context_close(&ref);
    assert_int_equal(failed, 0);
    return covered;
}

static void test_ref(void **state)
{
    struct hb_context context;
    (void)state;
    open_backend("ref", HB_CANONICAL, &context);
    assert_int_equal(run_all(&context, "ref"), list.count);
    hb_context_close(&context);
}

static void test_cpu(void **state)
{
    const struct hb_cpu_level *levels;
    int count = hb_cpu_levels(&levels);
    (void)state;
    for (int l = 0; l < count; l++)
        for (int threads = 1; levels[l].usable && threads <= 3; threads += 2) {
            struct hb_context context;
            OK(hb_context_open(levels[l].backend, HB_CANONICAL, threads, &context));
            assert_true(run_all(&context, levels[l].name) > 200);
            hb_context_close(&context);
        }
}

static void test_fast(void **state)
{
    struct hb_context context;
    const struct hb_backend *cpu;
    (void)state;
    OK(hb_backend_find("cpu", &cpu));
    if (hb_context_open(cpu, HB_FAST, 2, &context) != HB_OK) {
        print_message("skipped: %s\n", hb_error());
        skip();
    }
    assert_true(run_all(&context, "cpu, fast") > 200);
    hb_context_close(&context);
}

/* Every entry has at least three cases (one in each storage type, where it has
 * storage), and a case of same-sign numbers or exactness. */
static void test_complete(void **state)
{
    int cases[64] = {0}, storage[64] = {0};
    (void)state;
    assert_true(hb_op_count <= 64);
    for (int i = 0; i < list.count; i++) {
        struct hb_case c;
        OK(hb_case_open(list.paths[i], &c));
        cases[c.op - hb_op_table]++;
        storage[c.op - hb_op_table] |= 1 << c.dtype;
        hb_case_close(&c);
    }
    for (int i = 0; i < hb_op_count; i++) {
        int both = 1 << HB_BF16 | 1 << HB_F16;
        if (cases[i] < 3)
            fail_msg("%s has %d golden cases, must have 3 or more", hb_op_table[i].name, cases[i]);
        if (storage[i] & both && (storage[i] & (both | 1 << HB_F32)) != (both | 1 << HB_F32))
            fail_msg("%s lacks golden cases of a storage type", hb_op_table[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_fast),
        cmocka_unit_test(test_complete),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
