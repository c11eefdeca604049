/* The ONNX project's node tests: every file passes or says why it is not ours,
 * and a wrong backend fails them. */
#include "verify/support.h"

#include "ref/backend.h"
#include "verify/onnx.h"

struct counts {
    int pass, fail, uncovered;
};

static struct counts run_all(const struct hb_backend *backend, bool complain)
{
    char folder[4096];
    struct hb_case_list list;
    struct hb_context context;
    struct counts n = {0};
    OK(hb_context_open(backend, HB_CANONICAL, 1, &context));
    OK(hb_case_list_init(&list, in_source("golden/onnx", folder, sizeof folder)));
    for (int i = 0; i < list.count; i++) {
        struct hb_onnx_verdict v;
        OK(hb_onnx_verify(list.paths[i], &context, &v));
        n.pass += v.result == HB_ONNX_PASS;
        n.fail += v.result == HB_ONNX_FAIL;
        n.uncovered += v.result == HB_ONNX_UNCOVERED;
        assert_true(v.text[0] != '\0');
        if (v.result == HB_ONNX_FAIL && complain)
            print_error("%s: %s\n", list.paths[i], v.text);
    }
    hb_case_list_release(&list);
    hb_context_close(&context);
    return n;
}

static void test_ref(void **state)
{
    (void)state;
    struct counts n = run_all(&hb_backend_ref, true);
    assert_int_equal(n.fail, 0);
    assert_int_equal(n.pass, 25);
    assert_int_equal(n.uncovered, 12);
}

/* cpu may lack a storage type. */
static void test_cpu(void **state)
{
    const struct hb_backend *cpu;
    (void)state;
    OK(hb_backend_find("cpu", &cpu));
    struct counts n = run_all(cpu, true);
    assert_int_equal(n.fail, 0);
    assert_true(n.pass >= 24);
}

static hb_status wrong_attention(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    struct hb_attention_forward_args wrong = *args;
    wrong.scale = args->scale * 1.01f;
    return hb_backend_ref.attention_forward(context, &wrong);
}

static hb_status wrong_rope(struct hb_context *context, const struct hb_rope_args *args)
{
    struct hb_rope_args wrong = *args;
    wrong.backward = !args->backward;
    return hb_backend_ref.rope(context, &wrong);
}

static void test_wrong(void **state)
{
    struct hb_backend wrong = hb_backend_ref;
    (void)state;
    wrong.attention_forward = wrong_attention;
    assert_true(run_all(&wrong, false).fail >= 8);
    wrong = hb_backend_ref;
    wrong.rope = wrong_rope;
    assert_int_equal(run_all(&wrong, false).fail, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
