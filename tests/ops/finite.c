/* finite: every place and every kind of number, all storage types, counts of what is out of range, bits,
 * refusals; sum says the same. */
#include <math.h>

#include "ops/harness.h"
#include "ref/backend.h"

struct finite_case {
    int64_t n, at; /* at < 0: nothing is wrong */
    float value;
    int32_t before;
};

/* What the op sum says of the same numbers: in squares of the largest, divided and multiplied, nothing
 * overflows. */
static void check_sum(struct hb_context *context, const struct finite_case *c, struct hb_tensor x,
                      int32_t expected)
{
    static const float factors[] = {1, 0x1p-16f, 0x1p4f};
    for (int i = 0; i < 6; i++) {
        int32_t found;
        struct hb_sum_args args = {.x = x,
                                   .squares = i % 2,
                                   .factor = factors[i / 2],
                                   .out = th_1d(context, HB_F64, 1, NULL),
                                   .found = th_1d(context, HB_I32, 1, &c->before)};
        TH_OK(hb_sum(context, &args));
        TH_OK(hb_copy_out(context, &found, args.found));
        assert_int_equal(found, expected);
        th_free(context, &args.out);
        th_free(context, &args.found);
    }
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct finite_case *c = data;
    enum hb_dtype type = th_storage(context, 0);
    float *x = th_numbers(type == HB_F16 ? TH_NORMAL : TH_LARGE, 1, c->n);
    if (c->at >= 0)
        x[c->at] = c->value;
    struct hb_finite_args args = {
        .x = th_1d(context, type, c->n, x),
        .found = th_1d(context, HB_I32, 1, &c->before),
    };
    TH_OK(hb_finite(context, &args));
    th_keep(out, context, "found", args.found);
    check_sum(context, c, args.x, c->before || c->at >= 0);
    th_free(context, &args.x);
    th_free(context, &args.found);
    free(x);
}

/* Numbers around the bounds of every type: a run of each, so that blocks and threads share them. */
static float *edge_numbers(int64_t n)
{
    static const float edges[] = {0,           -0.0f,        1,         0x1p-102f, 0x1.fffffep-103f,
                                  0x1p-149f,   -0x1p-126f,   -0x1p-102f, 0x1p-14f,  0x1.ffcp-15f,
                                  -0x1p-24f,   0x1p-20f,     NAN,       INFINITY,  -INFINITY,
                                  65504,       0x1.fcp-103f, 0x1.fep-103f, 0x1p-86f, -0x1p-87f,
                                  0x1.8p-106f, -3};
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = edges[(i / 3 + i) % (int64_t)(sizeof edges / sizeof *edges)];
    return x;
}

/* In the type's own values, straight from the definition. */
static void expect_extremes(struct hb_context *context, struct hb_tensor x, double factor,
                            int64_t expected[2])
{
    double real = x.dtype == HB_F64 ? 0x1p-970 : 0x1p-102, least = x.dtype == HB_F16 ? 0x1p-14 : real;
    double *values = th_doubles(context, x);
    for (int64_t i = 0; i < hb_tensor_count(&x); i++) {
        double size = fabs(values[i]);
        expected[0] += !isfinite(size);
        expected[1] += size > 0 && (size < least || size * factor < real);
    }
    free(values);
}

static void run_extremes(struct hb_context *context, const void *data, struct th_outputs *out)
{
    static const float factors[] = {1, 0x1p-16f, 0x1p10f};
    static const int64_t before[2] = {7, 1LL << 40};
    int64_t n = *(const int64_t *)data, got[2];
    float *numbers = edge_numbers(n);
    struct hb_tensor x = th_1d(context, th_storage(context, 0), n, numbers);
    struct hb_tensor extremes = th_1d(context, HB_I64, 2, before);
    int64_t expected[2] = {before[0], before[1]};
    TH_OK(hb_finite(context, &(struct hb_finite_args){.x = x, .extremes = extremes}));
    expect_extremes(context, x, 1, expected);
    for (int i = 0; i < 3; i++) {
        struct hb_sum_args args = {.x = x,
                                   .factor = factors[i],
                                   .out = th_1d(context, HB_F64, 1, NULL),
                                   .extremes = extremes};
        TH_OK(hb_sum(context, &args));
        expect_extremes(context, x, (double)factors[i], expected);
        th_free(context, &args.out);
    }
    TH_OK(hb_copy_out(context, got, extremes));
    assert_int_equal(got[0], expected[0]);
    assert_int_equal(got[1], expected[1]);
    th_keep(out, context, "extremes", extremes);
    th_free(context, &x);
    th_free(context, &extremes);
    free(numbers);
}

static void test_extremes(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 33, 4096, 8193, 100003};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        th_same_bits_everywhere("extremes", run_extremes, &sizes[s]);
}

static int32_t found_on(struct hb_context *context, struct hb_tensor x, int32_t before)
{
    int32_t found;
    struct hb_finite_args args = {.x = x, .found = th_1d(context, HB_I32, 1, &before)};
    TH_OK(hb_finite(context, &args));
    TH_OK(hb_copy_out(context, &found, args.found));
    th_free(context, &args.found);
    return found;
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 31, 33, 8191, 8192, 8193, 100003};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        th_same_bits_everywhere("finite", run, &(struct finite_case){n, -1, 0, 0});
        th_same_bits_everywhere("finite", run, &(struct finite_case){n, -1, 0, 1});
        if (n == 0)
            continue;
        th_same_bits_everywhere("not finite", run, &(struct finite_case){n, 0, NAN, 0});
        th_same_bits_everywhere("not finite", run, &(struct finite_case){n, n - 1, -INFINITY, 0});
        th_same_bits_everywhere("not finite", run, &(struct finite_case){n, n / 2, INFINITY, 1});
    }
}

/* One number of each kind at each place of a small tensor. */
static void check_storage(struct hb_context *context, enum hb_dtype dtype, const void *wrong,
                          const void *fine, int count)
{
    enum { n = 5 };
    size_t size = hb_dtype_size(dtype);
    for (int k = 0; k < count; k++)
        for (int at = 0; at < n; at++) {
            char raw[n * 8] = {0};
            struct hb_tensor x = th_1d(context, dtype, n, NULL);
            memcpy(raw + (size_t)at * size, (const char *)fine + (size_t)k * size, size);
            TH_OK(hb_copy_in(context, x, raw));
            assert_int_equal(found_on(context, x, 0), 0);
            assert_int_equal(found_on(context, x, 1), 1);
            memcpy(raw + (size_t)at * size, (const char *)wrong + (size_t)k * size, size);
            TH_OK(hb_copy_in(context, x, raw));
            assert_int_equal(found_on(context, x, 0), 1);
            th_free(context, &x);
        }
}

static void test_storage(void **state)
{
    (void)state;
    /* infinity, -infinity, NaN with the smallest payload; largest, least denormal, -0 */
    static const uint32_t wrong32[] = {0x7f800000, 0xff800000, 0x7f800001};
    static const uint32_t fine32[] = {0x7f7fffff, 0x00000001, 0x80000000};
    static const uint16_t wrong_bf16[] = {0x7f80, 0xff80, 0x7f81}, fine_bf16[] = {0x7f7f, 0x0001, 0x8000};
    static const uint16_t wrong_f16[] = {0x7c00, 0xfc00, 0x7c01}, fine_f16[] = {0x7bff, 0x0001, 0x8000};
    static const uint64_t wrong64[] = {0x7ff0000000000000, 0xfff0000000000000, 0x7ff0000000000001};
    static const uint64_t fine64[] = {0x7fefffffffffffff, 0x0000000000000001, 0x8000000000000000};
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    check_storage(&context, HB_F32, wrong32, fine32, 3);
    check_storage(&context, HB_BF16, wrong_bf16, fine_bf16, 3);
    check_storage(&context, HB_F16, wrong_f16, fine_f16, 3);
    hb_context_close(&context);
    th_open_double(&context);
    check_storage(&context, HB_F64, wrong64, fine64, 3);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_finite_args good = {
        .x = th_1d(&context, HB_F32, 3, NULL),
        .found = th_1d(&context, HB_I32, 1, NULL),
    };
    struct hb_finite_args args = good;
    args.x.dtype = HB_I32;
    assert_int_equal(hb_finite(&context, &args), HB_ESHAPE);
    args = good;
    args.found.dtype = HB_F32;
    assert_int_equal(hb_finite(&context, &args), HB_ESHAPE);
    args = good;
    args.found.shape[0] = 2;
    assert_int_equal(hb_finite(&context, &args), HB_ESHAPE);
    args = good;
    args.extremes = th_1d(&context, HB_I64, 3, NULL);
    assert_int_equal(hb_finite(&context, &args), HB_ESHAPE);
    th_free(&context, &args.extremes);
    args.found = args.extremes = (struct hb_tensor){0}; /* neither */
    assert_int_equal(hb_finite(&context, &args), HB_ESHAPE);
    args = good;
    args.x.home = NULL;
    assert_int_equal(hb_finite(&context, &args), HB_EARGUMENT);
    th_free(&context, &good.x);
    th_free(&context, &good.found);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
