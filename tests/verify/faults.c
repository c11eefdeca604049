/* Every op of ref and cpu when memory runs out: the n-th allocation of a call
 * fails, for every n. One clear error, nothing leaked, and the same context then
 * makes the same call with the right bits. */
#include "verify/support.h"

#include "core/memory.h"
#include "verify/compare.h"

enum { CASES_OF_AN_OP = 3 };

static int64_t all_memory(void)
{
    int64_t bytes = 0;
    for (int c = 0; c < HB_MEMORY_CATEGORY_COUNT; c++)
        bytes += hb_memory_now((enum hb_memory_category)c);
    return bytes;
}

static void compare(const struct hb_case *c, const struct hb_case_results *got,
                    const struct hb_case_results *wanted)
{
    for (int t = 0; t < c->count; t++)
        if (wanted->data[t] &&
            hb_compare_bits(c->tensors[t].dtype, got->data[t], wanted->data[t], c->tensors[t].count) >= 0)
            fail_msg("%s (%s): other bits after a failure", c->op->name, c->label);
}

/* False: the call has fewer than n allocations. */
static bool fail_at(const struct hb_case *c, const struct hb_backend *backend, int64_t n,
                    const struct hb_case_results *wanted)
{
    struct hb_context context;
    struct hb_case_results got;
    int64_t before = all_memory();
    OK(hb_context_open(backend, HB_CANONICAL, 2, &context));
    hb_memory_fail_at(n);
    hb_status status = hb_case_run(c, &context, &got);
    hb_memory_fail_at(0);
    if (status != HB_OK) {
        if (status != HB_EMEMORY || !strstr(hb_error(), "memory"))
            fail_msg("%s on %s, allocation %lld: status %d, '%s'", c->op->name, backend->name, (long long)n,
                     status, hb_error());
        OK(hb_case_run(c, &context, &got));
    }
    compare(c, &got, wanted);
    hb_case_results_release(&got);
    hb_context_close(&context);
    assert_int_equal(all_memory(), before);
    return status != HB_OK;
}

/* A call allocates its tensors at least. */
static void check_case(const struct hb_case *c, const char *name)
{
    const struct hb_backend *backend;
    struct hb_context ref;
    struct hb_case_results wanted;
    OK(hb_backend_find(name, &backend));
    open_backend("ref", HB_CANONICAL, &ref);
    OK(hb_case_run(c, &ref, &wanted));
    int64_t failures = 0;
    while (fail_at(c, backend, failures + 1, &wanted))
        failures++;
    assert_true(failures >= c->count);
    hb_case_results_release(&wanted);
    hb_context_close(&ref);
}

static void test_every_op(void **state)
{
    (void)state;
    static const char *const backends[] = {"ref", "cpu"};
    char folder[4096];
    struct hb_case_list list;
    int done[256] = {0};
    assert_true(hb_op_count <= 256);
    OK(hb_case_list_init(&list, in_source("golden/ops", folder, sizeof folder)));
    for (int i = 0; i < list.count; i++) {
        struct hb_case c;
        OK(hb_case_open(list.paths[i], &c));
        if (c.dtype != HB_BF16 && c.dtype != HB_F16 && done[c.op - hb_op_table]++ < CASES_OF_AN_OP)
            for (size_t b = 0; b < sizeof backends / sizeof *backends; b++)
                check_case(&c, backends[b]);
        hb_case_close(&c);
    }
    hb_case_list_release(&list);
    for (int i = 0; i < hb_op_count; i++)
        if (!done[i])
            fail_msg("golden/ops has no case of %s", hb_op_table[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_op)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
