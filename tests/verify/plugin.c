/* Backends in shared objects: the example's mistake is caught and placed, and
 * what cannot be trusted is refused by name. HB_BUILDDIR has the objects. */
#include "verify/support.h"

#include "backends/plugin.h"
#include "core/float_environment.h"
#include "ref/backend.h"

static const char *built(const char *name, char *path, size_t size)
{
    const char *build = getenv("HB_BUILDDIR");
    snprintf(path, size, "%s/%s", build ? build : ".", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s was not built; make check builds it", path);
    fclose(file);
    return path;
}

static int64_t rows_of(const struct hb_case *c)
{
    assert_string_equal(c->tensors[0].argument->name, "x");
    return c->tensors[0].shape[0];
}

static void test_example(void **state)
{
    char path[4096], folder[4096];
    struct hb_case_list list;
    struct hb_context subject, ref;
    struct hb_plugin plugin;
    int wrong = 0, right = 0, others = 0;
    (void)state;
    OK(hb_plugin_init(&plugin, built("examples/backend-plugin/.libs/plugin.so", path, sizeof path)));
    assert_string_equal(plugin.backend.name, "mine");
    OK(hb_context_open(&plugin.backend, HB_CANONICAL, 2, &subject));
    open_backend("ref", HB_CANONICAL, &ref);
    OK(hb_case_list_init(&list, in_source("golden/ops", folder, sizeof folder)));
    for (int i = 0; i < list.count; i++) {
        struct hb_verdict v;
        struct hb_case c;
        OK(hb_case_open(list.paths[i], &c));
        OK(hb_verify_case(&c, &subject, &ref, &v));
        bool column_sum = v.covered && strcmp(c.op->name, "column_sum") == 0;
        if (column_sum && rows_of(&c) % 4 != 0) {
            wrong++;
            assert_false(v.passed);
            if (!strstr(v.problem, "first wrong element out[0]"))
                fail_msg("the mistake is not placed: %s", v.problem);
        } else {
            right += column_sum;
            others += v.covered && !column_sum;
            if (!v.passed)
                fail_msg("%s (%s): %s", list.paths[i], c.label, v.problem);
        }
        hb_case_close(&c);
    }
    assert_true(wrong >= 4 && right >= 4 && others > 200);
    hb_case_list_release(&list);
    hb_context_close(&subject);
    hb_context_close(&ref);
    hb_plugin_release(&plugin);
}

static void test_environment(void **state)
{
    char path[4096];
    struct hb_plugin plugin;
    (void)state;
    REFUSED(hb_plugin_init(&plugin, built("tests/verify/modules/.libs/flush.so", path, sizeof path)),
            "flush.so: denormal numbers are flushed to zero");
    OK(hb_float_environment_check("after the refusal")); /* put back */
}

static void test_no_backend(void **state)
{
    char path[4096];
    struct hb_plugin plugin;
    (void)state;
    REFUSED(hb_plugin_init(&plugin, "/nonexistent/mine.so"), "/nonexistent/mine.so");
    REFUSED(hb_plugin_init(&plugin, built(".libs/libhornbook.so", path, sizeof path)),
            "exports no struct hb_backend named hb_backend_plugin");
}

/* Gaps are filled from the base, own entries stay. */
static void test_inherits(void **state)
{
    static const struct hb_backend one = {
        .api_version = HB_BACKEND_API, .name = "one", .base = "ref", .about = "nothing of its own"};
    struct hb_backend out;
    (void)state;
    OK(hb_plugin_resolve(&one, "one.so", &out));
    assert_true(out.product == hb_backend_ref.product && out.alloc == hb_backend_ref.alloc);
    assert_int_equal(out.storage, hb_backend_ref.storage);
    assert_string_equal(out.name, "one");

    struct hb_backend own = one;
    own.product = hb_backend_ref64.product;
    own.storage = HB_STORAGE(HB_F32);
    OK(hb_plugin_resolve(&own, "one.so", &out));
    assert_true(out.product == hb_backend_ref64.product && out.rope == hb_backend_ref.rope);
    assert_int_equal(out.storage, HB_STORAGE(HB_F32));
}

static void test_refused(void **state)
{
    struct hb_backend b = hb_backend_ref, out;
    (void)state;
    OK(hb_plugin_resolve(&b, "mine.so", &out));
    b.api_version = HB_BACKEND_API + 1;
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out),
            "mine.so: speaks interface version 4, this library version 3");
    b = hb_backend_ref;
    b.base = "gpu9";
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out), "gpu9");
    b = hb_backend_ref;
    b.sync = NULL;
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out), "8 of the 9 functions");
    b.base = "ref"; /* half of the memory functions with a base would mix two kinds of memory */
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out), "8 of the 9 functions");
    b = hb_backend_ref;
    b.storage = 0;
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out), "storage");
    b = hb_backend_ref;
    b.name = NULL;
    REFUSED(hb_plugin_resolve(&b, "mine.so", &out), "has no name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),    cmocka_unit_test(test_environment),
        cmocka_unit_test(test_no_backend), cmocka_unit_test(test_inherits),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
