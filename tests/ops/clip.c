/* clip: values by hand, the cases at the edge, bits, refusals. */
#include <math.h>

#include "ops/harness.h"
#include "ref/backend.h"

struct clip_case {
    int64_t n;
    const double *squares;
    const int32_t *order;
    float max_norm;
};

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct clip_case *c = data;
    struct hb_clip_args args = {
        .squares = th_1d(context, HB_F64, c->n, NULL),
        .max_norm = c->max_norm,
        .norm = th_1d(context, HB_F64, 1, NULL),
        .coef = th_1d(context, th_real(context), 1, NULL),
    };
    if (c->order)
        args.order = th_1d(context, HB_I32, c->n, c->order);
    TH_OK(hb_copy_in(context, args.squares, c->squares));
    TH_OK(hb_clip(context, &args));
    th_keep(out, context, "norm", args.norm);
    th_keep(out, context, "coef", args.coef);
    th_free(context, &args.squares);
    th_free(context, &args.order);
    th_free(context, &args.norm);
    th_free(context, &args.coef);
}

static void expect_in(const int32_t *order, int64_t n, const double *squares, float max_norm, double norm,
                      float coef)
{
    struct clip_case c = {n, squares, order, max_norm};
    struct hb_context context;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &c, &out);
    hb_context_close(&context);
    double got_norm = *(double *)out.item[0].data;
    float got_coef = *(float *)out.item[1].data;
    if (!(got_norm == norm || (isnan(norm) && isnan(got_norm))))
        fail_msg("norm %.17g, expected %.17g", got_norm, norm);
    if (!(got_coef == coef || (isnan(coef) && isnan(got_coef))))
        fail_msg("coef %.9g, expected %.9g", (double)got_coef, (double)coef);
    th_outputs_release(&out);
    th_same_bits_everywhere("clip", run, &c);
}

static void expect(int64_t n, const double *squares, float max_norm, double norm, float coef)
{
    expect_in(NULL, n, squares, max_norm, norm, coef);
}

static void test_values(void **state)
{
    (void)state;
    expect(2, (double[]){9, 16}, 1, 5, (float)(1 / (5 + 1e-6)));
    expect(2, (double[]){9, 16}, 10, 5, 1);
    expect(0, (double[]){0}, 1, 0, 1);
    expect(1, (double[]){0}, 1, 0, 1);
    /* exactly at the limit the 1e-6 already shrinks, as in PyTorch */
    expect(1, (double[]){1}, 1, 1, (float)(1 / (1 + 1e-6)));
}

/* As many tensors as a model has: 1, then numbers that each vanish beside it but not together. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 1000 };
    double squares[N];
    int32_t order[N];
    squares[N - 1] = 1;
    for (int i = 0; i < N; i++) {
        order[i] = N - 1 - i;
        if (i < N - 1)
            squares[i] = 0x1p-54;
    }
    assert_true(sqrt(1 + (N - 1) * 0x1p-54) > 1);
    expect_in(order, N, squares, 0, 1, 1);
    expect(N, squares, 0, sqrt(1 + (N - 1) * 0x1p-54), 1);
}

/* To 16, halves of its last place are lost one after the other; added before, they count. */
static void test_order(void **state)
{
    (void)state;
    const double s = 0x1p-49, sum = 16 + 4 * s;
    const double squares[] = {s, s, 16, s, s}, sorted[] = {16, s, s, s, s};
    assert_true(sqrt(sum) > 4);
    expect(5, sorted, 0, 4, 1);
    expect_in((int32_t[]){2, 0, 1, 4, 3}, 5, squares, 0, 4, 1);
    expect_in((int32_t[]){4, 3, 1, 0, 2}, 5, squares, 0, sqrt(sum), 1);
}

static void test_edges(void **state)
{
    (void)state;
    expect(1, (double[]){1e6}, 0, 1e3, 1);
    expect(1, (double[]){1e6}, -1, 1e3, 1);
    /* What is not finite stays visible: NaN as NaN; an infinite norm as 0, with which infinity makes NaN. */
    expect(2, (double[]){1, NAN}, 1, NAN, NAN);
    expect(2, (double[]){1, INFINITY}, 1, INFINITY, 0);
    /* without clipping the gradient passes as it is */
    expect(2, (double[]){1, NAN}, 0, NAN, 1);
    expect(2, (double[]){1, INFINITY}, 0, INFINITY, 1);
    expect(1, (double[]){4}, INFINITY, 2, 1);
    expect(1, (double[]){INFINITY}, INFINITY, INFINITY, NAN);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_clip_args good = {
        .squares = th_1d(&context, HB_F64, 3, NULL),
        .max_norm = 1,
        .norm = th_1d(&context, HB_F64, 1, NULL),
        .coef = th_1d(&context, HB_F32, 1, NULL),
    };
    struct hb_clip_args args = good;
    args.max_norm = NAN;
    assert_int_equal(hb_clip(&context, &args), HB_EARGUMENT);
    args = good;
    args.squares.dtype = HB_F32;
    assert_int_equal(hb_clip(&context, &args), HB_ESHAPE);
    args = good;
    args.coef.shape[0] = 2;
    assert_int_equal(hb_clip(&context, &args), HB_ESHAPE);
    args = good;
    args.order = th_1d(&context, HB_I32, 2, NULL);
    assert_int_equal(hb_clip(&context, &args), HB_ESHAPE);
    th_free(&context, &args.order);
    args = good;
    args.norm.home = NULL;
    assert_int_equal(hb_clip(&context, &args), HB_EARGUMENT);
    th_free(&context, &good.squares);
    th_free(&context, &good.norm);
    th_free(&context, &good.coef);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
