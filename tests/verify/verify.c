/* Backends with one mistake each: verify must find it, name it and place it. */
#include "verify/support.h"

#include <fenv.h>
#include <math.h>

#include "ops/table.h"
#include "ref/backend.h"

/* The case that all of them are shown. */
static const char label[] = "n=5 D=65 normal";

static hb_status flip_bit(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    HB_TRY(hb_backend_ref.rmsnorm_forward(context, args));
    ((uint32_t *)args->y.data)[2 * 65 + 7] ^= 1;
    return HB_OK;
}

static hb_status wrong_sign(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    HB_TRY(hb_backend_ref.rmsnorm_forward(context, args));
    float *y = args->y.data;
    y[64] = -y[64];
    y[65] = -y[65];
    return HB_OK;
}

static hb_status leave_out(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    struct hb_rmsnorm_forward_args fewer = *args;
    fewer.x = hb_tensor_rows(args->x, 0, 4);
    fewer.y = hb_tensor_rows(args->y, 0, 4);
    fewer.rstd = hb_tensor_rows(args->rstd, 0, 4);
    return hb_backend_ref.rmsnorm_forward(context, &fewer);
}

static hb_status write_input(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    HB_TRY(hb_backend_ref.rmsnorm_forward(context, args));
    ((float *)args->x.data)[3] = 0;
    return HB_OK;
}

/* One element more than there is. */
static hb_status write_behind(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    HB_TRY(hb_backend_ref.rmsnorm_forward(context, args));
    ((float *)args->rstd.data)[5] = 1;
    return HB_OK;
}

static hb_status change_rounding(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    HB_TRY(hb_backend_ref.rmsnorm_forward(context, args));
    fesetround(FE_UPWARD);
    return HB_OK;
}

static hb_status refuse(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    (void)context;
    (void)args;
    return HB_FAIL(HB_EUNSUPPORTED, "rows of 65 are not for me");
}

typedef hb_status (*rmsnorm)(struct hb_context *, const struct hb_rmsnorm_forward_args *);

static struct hb_verdict judge(rmsnorm forward, enum hb_numerics numerics)
{
    struct hb_backend backend = hb_backend_ref;
    struct hb_context subject, ref;
    struct hb_verdict verdict;
    struct hb_case c;
    backend.rmsnorm_forward = forward;
    open_case("rmsnorm_forward", label, HB_F32, &c);
    OK(hb_context_open(&backend, numerics, 1, &subject));
    open_backend("ref", HB_CANONICAL, &ref);
    OK(hb_verify_case(&c, &subject, &ref, &verdict));
    hb_context_close(&subject);
    hb_context_close(&ref);
    hb_case_close(&c);
    return verdict;
}

static void expect_problem(const struct hb_verdict *v, const char *text)
{
    assert_false(v->passed);
    if (!strstr(v->problem, text))
        fail_msg("'%s' does not say '%s'", v->problem, text);
}

static void test_right(void **state)
{
    (void)state;
    struct hb_verdict v = judge(hb_backend_ref.rmsnorm_forward, HB_CANONICAL);
    assert_true(v.passed && v.covered && v.ran && v.same_bits);
    assert_true(v.share > 0 && v.share <= 1 && v.worst <= v.share);
    assert_string_equal(v.problem, "");
}

/* Within the bound, but not the bits: canonical demands them, fast does not. */
static void test_one_bit(void **state)
{
    (void)state;
    struct hb_verdict v = judge(flip_bit, HB_CANONICAL);
    expect_problem(&v, "bits differ from ref, first at y[2,7]: ref has ");
    assert_true(v.share <= 1);
    v = judge(flip_bit, HB_FAST);
    assert_true(v.passed);
    assert_false(v.same_bits);
}

static void test_wrong_value(void **state)
{
    (void)state;
    for (int numerics = HB_CANONICAL; numerics <= HB_FAST; numerics++) {
        struct hb_verdict v = judge(wrong_sign, (enum hb_numerics)numerics);
        expect_problem(&v, "first wrong element y[0,64]: expected ");
        assert_true(v.share > 1);
    }
}

static void test_unwritten(void **state)
{
    (void)state;
    struct hb_verdict v = judge(leave_out, HB_FAST);
    expect_problem(&v, "first wrong element y[4,0]: expected ");
    assert_true(isinf(v.share));
}

static void test_written_input(void **state)
{
    (void)state;
    struct hb_verdict v = judge(write_input, HB_CANONICAL);
    expect_problem(&v, "wrote into x");
}

static void test_written_guard(void **state)
{
    (void)state;
    struct hb_verdict v = judge(write_behind, HB_CANONICAL);
    expect_problem(&v, "wrote behind the end of rstd");
}

static void test_environment(void **state)
{
    (void)state;
    int before = fegetround();
    struct hb_verdict v = judge(change_rounding, HB_CANONICAL);
    fesetround(before);
    expect_problem(&v, "floating-point environment");
}

static void test_refusal(void **state)
{
    (void)state;
    struct hb_verdict v = judge(refuse, HB_CANONICAL);
    expect_problem(&v, "rows of 65 are not for me");
    assert_true(v.covered && !v.ran && v.share == 0);
    v = judge(NULL, HB_CANONICAL);
    expect_problem(&v, "has no op rmsnorm_forward");
}

/* A storage type that the backend lacks is said, not failed and not passed over. */
static void test_uncovered(void **state)
{
    struct hb_backend backend = hb_backend_ref;
    struct hb_context subject, ref;
    struct hb_verdict v;
    struct hb_case c;
    (void)state;
    backend.storage = HB_STORAGE(HB_F32);
    open_case("rmsnorm_forward", "n=5 D=65 positive", HB_BF16, &c);
    OK(hb_context_open(&backend, HB_CANONICAL, 1, &subject));
    open_backend("ref", HB_CANONICAL, &ref);
    OK(hb_verify_case(&c, &subject, &ref, &v));
    assert_false(v.covered);
    assert_true(v.passed);
    hb_context_close(&subject);
    hb_context_close(&ref);
    hb_case_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),         cmocka_unit_test(test_one_bit),
        cmocka_unit_test(test_wrong_value),   cmocka_unit_test(test_unwritten),
        cmocka_unit_test(test_written_input), cmocka_unit_test(test_written_guard),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_refusal),       cmocka_unit_test(test_uncovered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
