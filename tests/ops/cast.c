/* cast: bits of all pairs over all 16-bit patterns and a net over fp32, nearest-even by
 * definition, values by hand, refusals. */
#include <math.h>

#include "ops/harness.h"
#include "ref/backend.h"

static const enum hb_dtype types[] = {HB_F64, HB_F32, HB_BF16, HB_F16};

/* Every 16-bit pattern; for fp32 and fp64, numbers at and beside every tie of the narrower types,
 * over all exponents and signs. */
static void *patterns(enum hb_dtype dtype, int64_t *count)
{
    *count = dtype == HB_BF16 || dtype == HB_F16 ? 65536 : 3 * 65536;
    char *raw = malloc((size_t)*count * hb_dtype_size(dtype));
    assert_non_null(raw);
    for (int64_t i = 0; i < *count; i++) {
        uint32_t u = (uint32_t)(i / 3) * 65536u; /* a bf16 number, in fp32 */
        u += i / 3 % 2 ? 0x8000u : 0x1000u;      /* half of its last place; half of fp16's */
        u += (uint32_t)(i % 3) - 1;
        float narrow = hb_f32_of_bits(u);
        double wide = (double)narrow * (i % 5 == 0 ? 1e-300 : 1 + 0x1p-40 * (double)(i % 7));
        uint16_t half = (uint16_t)i;
        const void *from = dtype == HB_F64   ? (const void *)&wide
                           : dtype == HB_F32 ? (const void *)&narrow
                                             : &half;
        memcpy(raw + (size_t)i * hb_dtype_size(dtype), from, hb_dtype_size(dtype));
    }
    return raw;
}

struct cast_case {
    enum hb_dtype from, to;
    int64_t n;
    const void *raw;
};

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct cast_case *c = data;
    struct hb_tensor whole = th_1d(context, c->to, c->n + 1, NULL); /* one more, which must stay 0 */
    struct hb_cast_args args = {.x = th_1d(context, c->from, c->n, NULL), .out = whole};
    args.out.shape[0] = c->n;
    void *zeros = calloc((size_t)c->n + 1, hb_dtype_size(c->to));
    assert_non_null(zeros);
    TH_OK(hb_copy_in(context, whole, zeros));
    TH_OK(hb_copy_in(context, args.x, c->raw));
    TH_OK(hb_cast(context, &args));
    th_keep(out, context, "out", whole);
    th_free(context, &args.x);
    th_free(context, &whole);
    free(zeros);
}

static void test_bits(void **state)
{
    (void)state;
    for (int f = 0; f < 4; f++) {
        struct cast_case c = {.from = types[f]};
        int64_t all;
        void *raw = patterns(types[f], &all);
        int64_t sizes[] = {0, 1, 31, 1023, 1025, all};
        c.raw = raw;
        for (int t = 0; t < 4; t++)
            for (int s = 0; s < 6; s++) {
                c.to = types[t];
                c.n = sizes[s];
                th_same_bits_everywhere("cast", run, &c);
            }
        free(raw);
    }
}

/* What a 16-bit pattern is worth, by the definition of the format. */
static double worth(enum hb_dtype dtype, uint16_t h)
{
    int mantissa_bits = dtype == HB_F16 ? 10 : 7, bias = dtype == HB_F16 ? 15 : 127;
    int exponent = (h & 0x7fff) >> mantissa_bits, mantissa = h & ((1 << mantissa_bits) - 1);
    double m = exponent ? mantissa + (1 << mantissa_bits) : mantissa;
    double x =
        ldexp(m, (exponent ? exponent : 1) - bias - mantissa_bits); /* infinity: as if it were the next */
    return h & 0x8000 ? -x : x;
}

static bool is_nan16(enum hb_dtype dtype, uint16_t h)
{
    return (h & 0x7fff) > (dtype == HB_F16 ? 0x7c00 : 0x7f80);
}

static void nearest_even(const struct hb_backend *backend, enum hb_dtype dtype)
{
    struct hb_context context;
    struct th_outputs out = {0};
    struct cast_case c = {.from = HB_F32, .to = dtype};
    float *x = patterns(HB_F32, &c.n);
    c.raw = x;
    TH_OK(hb_context_open(backend, HB_CANONICAL, 1, &context));
    run(&context, &c, &out);
    hb_context_close(&context);
    const uint16_t *h = out.item[0].data;
    for (int64_t i = 0; i < c.n; i++) {
        if (isnan(x[i])) {
            assert_true(h[i] == (dtype == HB_F16 ? 0x7e00 : 0x7fc0));
            continue;
        }
        assert_false(is_nan16(dtype, h[i]));
        assert_true(!signbit(x[i]) == !(h[i] & 0x8000));
        double size = fabs((double)x[i]), got = fabs(worth(dtype, h[i]));
        uint16_t least = h[i] & 0x7fff, infinity = dtype == HB_F16 ? 0x7c00 : 0x7f80;
        double up = least < infinity ? worth(dtype, least + 1) : got;
        double down = least > 0 ? worth(dtype, least - 1) : got;
        if (least == infinity) { /* from half a step below on */
            assert_true(size >= (got + down) / 2);
            continue;
        }
        assert_true(size <= (got + up) / 2 && (least == 0 || size >= (got + down) / 2));
        if (size == (got + up) / 2 || (least > 0 && size == (got + down) / 2))
            assert_false(least & 1);
    }
    th_outputs_release(&out);
    free(x);
}

static void test_nearest_even(void **state)
{
    (void)state;
    nearest_even(&hb_backend_ref, HB_BF16);
    nearest_even(&hb_backend_ref, HB_F16);
    nearest_even(&hb_backend_ref64, HB_F16); /* its tensors are fp64, but it casts all types */
}

/* Widening is exact, and narrowing it back gives the pattern. */
static void test_widening(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    for (int f = 2; f < 4; f++)
        for (int t = 0; t < 2; t++) {
            struct th_outputs out = {0}, back = {0};
            struct cast_case c = {.from = types[f], .to = types[t]},
                             reverse = {.from = types[t], .to = types[f]};
            uint16_t *raw = patterns(types[f], &c.n);
            uint16_t infinity = types[f] == HB_F16 ? 0x7c00 : 0x7f80;
            c.raw = raw;
            run(&context, &c, &out);
            reverse.n = c.n;
            reverse.raw = out.item[0].data;
            run(&context, &reverse, &back);
            for (int64_t i = 0; i < c.n; i++) {
                double wide =
                    t == 0 ? ((double *)out.item[0].data)[i] : (double)((float *)out.item[0].data)[i];
                if (is_nan16(types[f], raw[i])) {
                    assert_true(isnan(wide));
                    continue;
                }
                if ((raw[i] & 0x7fff) == infinity)
                    assert_true(isinf(wide) && !signbit(wide) == !(raw[i] & 0x8000));
                else
                    assert_true(wide == worth(types[f], raw[i]) && !signbit(wide) == !(raw[i] & 0x8000));
                assert_int_equal(((uint16_t *)back.item[0].data)[i], raw[i]);
            }
            th_outputs_release(&out);
            th_outputs_release(&back);
            free(raw);
        }
    hb_context_close(&context);
}

/* fp64 to 16 bits is two roundings: 1 + 2^-8 + 2^-30 first becomes the tie 1 + 2^-8, then 1. */
static void test_two_roundings(void **state)
{
    (void)state;
    double x[2] = {1 + 0x1p-8 + 0x1p-30, 1 + 0x1p-8 + 0x1p-22};
    struct cast_case c = {HB_F64, HB_BF16, 2, x};
    struct hb_context context;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &c, &out);
    const uint16_t *h = out.item[0].data;
    assert_int_equal(h[0], 0x3f80);
    assert_int_equal(h[1], 0x3f81);
    th_outputs_release(&out);
    /* and fp64 stays fp64, on a backend whose arithmetic is fp32 */
    c.to = HB_F64;
    run(&context, &c, &out);
    assert_memory_equal(out.item[0].data, x, sizeof x);
    th_outputs_release(&out);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_cast_args good = {
        .x = th_1d(&context, HB_F32, 6, NULL),
        .out = th_1d(&context, HB_BF16, 6, NULL),
    };
    struct hb_cast_args args = good;
    args.out.shape[0] = 5;
    assert_int_equal(hb_cast(&context, &args), HB_ESHAPE);
    args = good;
    args.out.dtype = HB_I32;
    assert_int_equal(hb_cast(&context, &args), HB_ESHAPE);
    args = good;
    args.out.data = args.x.data;
    assert_int_equal(hb_cast(&context, &args), HB_EARGUMENT);
    args = good;
    args.x.home = NULL;
    assert_int_equal(hb_cast(&context, &args), HB_EARGUMENT);
    th_free(&context, &good.x);
    th_free(&context, &good.out);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),     cmocka_unit_test(test_nearest_even),
        cmocka_unit_test(test_widening), cmocka_unit_test(test_two_roundings),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
