/* fp32 elementary functions: error bounds against the C library in double,
 * special values, and one pinned hash that every compiler and processor must
 * reproduce. HB_TEST_FULL=1 visits all 2^32 arguments (about 4 minutes of processor time). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/math.h"

static double sigmoid(double x)
{
    return x < 0.0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x));
}

/* Each function over an array in two forms: scalar, and with vectors as the library's loops are compiled,
 * where the processor has them. */
#if defined __x86_64__ && defined __GNUC__
#define VECTORS __attribute__((target("avx2,fma"), flatten))
#define HAVE_VECTORS (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define VECTORS
#define HAVE_VECTORS true
#endif

#define EACH(name, function)                                                                                 \
    static void each_##name(const float *restrict x, float *restrict y, int n)                               \
    {                                                                                                        \
        for (int i = 0; i < n; i++)                                                                          \
            y[i] = function(x[i]);                                                                           \
    }                                                                                                        \
    VECTORS static void vector_##name(const float *restrict x, float *restrict y, int n)                     \
    {                                                                                                        \
        _Pragma("omp simd") for (int i = 0; i < n; i++)                                                      \
            y[i] = function(x[i]);                                                                           \
    }

EACH(exp, hb_expf)
EACH(log, hb_logf)
EACH(tanh, hb_tanhf)
EACH(erf, hb_erff)
EACH(sigmoid, hb_sigmoidf)

typedef void each(const float *restrict x, float *restrict y, int n);

/* The bounds are those that core/math.h states. */
static const struct function {
    const char *name;
    each *each[2]; /* scalar, vector */
    double (*truth)(double);
    double bound;
    uint64_t hash;
} functions[] = {
    {"exp", {each_exp, vector_exp}, exp, 0.90, UINT64_C(0x9bf79a3f0da04bb3)},
    {"log", {each_log, vector_log}, log, 0.92, UINT64_C(0x9231fb4748a4da47)},
    {"tanh", {each_tanh, vector_tanh}, tanh, 1.40, UINT64_C(0x033ec50f78e1732d)},
    {"erf", {each_erf, vector_erf}, erf, 1.07, UINT64_C(0x552e60fc45b00e7d)},
    {"sigmoid", {each_sigmoid, vector_sigmoid}, sigmoid, 2.45, UINT64_C(0x0d8214a2bc951068)},
};

enum { FUNCTIONS = sizeof functions / sizeof *functions, BLOCK = 1024 };

static each *quickest(const struct function *f)
{
    return f->each[HAVE_VECTORS ? 1 : 0];
}

/* Distance in units in the last place of an fp32 number of the truth's size. Infinity stands for 2^128. */
static double error_of(float y, double truth)
{
    if (truth != truth || y != y)
        return truth != truth && y != y ? 0.0 : 1e30;
    if (!signbit(y) != !signbit(truth))
        return 1e30;
    double magnitude = fabs(truth);
    if (isinf(truth) ||
        isinf(y)) /* right if the truth rounds to infinity; half a unit below it may go either way */
        return isinf(y) && magnitude >= 0x1.fffffep+127 ? 0.0 : 1e30;
    if (magnitude >= 0x1.ffffffp+127)
        return (0x1p+128 - fabs((double)y)) / 0x1p+104;
    uint64_t unit_bits; /* 2^23 units are the power of two at or below the truth */
    double unit = magnitude < 0x1p-126 ? 0x1p-126 : magnitude;
    memcpy(&unit_bits, &unit, sizeof unit);
    unit_bits = (unit_bits >> 52 << 52) - (UINT64_C(23) << 52);
    memcpy(&unit, &unit_bits, sizeof unit);
    return fabs((double)y - truth) / unit;
}

static void fill(float *x, uint64_t first, uint64_t stride)
{
    for (int i = 0; i < BLOCK; i++)
        x[i] = hb_f32_of_bits((uint32_t)(first + (uint64_t)i * stride));
}

static double worst_of(const struct function *f, uint64_t first, uint64_t stride, float *where)
{
    float x[BLOCK], y[BLOCK];
    double worst = 0.0;
    fill(x, first, stride);
    quickest(f)(x, y, BLOCK);
    for (int i = 0; i < BLOCK; i++) {
        double error = error_of(y[i], f->truth((double)x[i]));
        if (!(error <= worst)) {
            worst = error;
            *where = x[i];
        }
    }
    return worst;
}

static void test_bounds(void **state)
{
    (void)state;
    int64_t stride = getenv("HB_TEST_FULL") ? 1 : 251, blocks = (INT64_C(1) << 32) / (BLOCK * stride) + 1;
    for (int k = 0; k < FUNCTIONS; k++) {
        double worst = 0.0;
        float at = 0.0f;
#pragma omp parallel for schedule(dynamic, 1024)
        for (int64_t block = 0; block < blocks; block++) {
            float where = 0.0f;
            uint64_t first = (uint64_t)(block * BLOCK * stride);
            double error = worst_of(&functions[k], first, (uint64_t)stride, &where);
#pragma omp critical
            if (!(error <= worst)) {
                worst = error;
                at = where;
            }
        }
        print_message("%-8s largest error %.4f units at %a (bound %.2f)\n", functions[k].name, worst,
                      (double)at, functions[k].bound);
        assert_true(worst <= functions[k].bound);
    }
}

/* Every float in the neighbourhood of each place where an expression changes. */
static void test_seams(void **state)
{
    (void)state;
    static const float seams[] = {
        0.0f,     0x1p-126f, 0x1p-149f, 0.625f, 0.8f,      1.0f,      2.0f,     4.0f,     2.0f / 3,
        4.0f / 3, 8.66f,     9.01f,     16.6f,  0.34657f,  1.03972f,  87.336f,  88.3762f, 88.72284f,
        89.0f,    103.2789f, 103.972f,  104.0f, 0x1p+127f, 0x1p+126f, 44.3614f, 51.98f,   0x1p+30f,
    };
    for (int k = 0; k < FUNCTIONS; k++)
        for (size_t s = 0; s < sizeof seams / sizeof *seams; s++)
            for (uint32_t sign = 0; sign < 2; sign++)
                for (uint32_t block = 0; block < 16; block++) {
                    float where = 0.0f;
                    uint32_t middle = hb_bits_of_f32(seams[s]) | sign << 31;
                    double error = worst_of(&functions[k], middle + block * BLOCK - 8 * BLOCK, 1, &where);
                    if (!(error <= functions[k].bound))
                        fail_msg("%s(%a): %g units", functions[k].name, (double)where, error);
                }
}

static void assert_bits(float y, uint32_t expected)
{
    assert_int_equal(hb_bits_of_f32(y), expected);
}

static void test_special(void **state)
{
    (void)state;
    const float infinity = hb_f32_of_bits(0x7f800000u);
    static const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffbfffffu, 0x7fffffffu};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float x[1] = {hb_f32_of_bits(nans[i])};
        for (int k = 0; k < FUNCTIONS; k++) {
            float y[1];
            quickest(&functions[k])(x, y, 1);
            assert_true(y[0] != y[0]);
        }
    }
    assert_bits(hb_expf(0.0f), 0x3f800000u);
    assert_bits(hb_expf(-0.0f), 0x3f800000u);
    assert_bits(hb_expf(infinity), 0x7f800000u);
    assert_bits(hb_expf(-infinity), 0);
    assert_bits(hb_expf(-3e38f), 0);
    assert_bits(hb_expf(3e38f), 0x7f800000u);
    assert_bits(hb_expf(-103.9f), 1); /* the smallest denormal */
    assert_bits(hb_logf(1.0f), 0);
    assert_bits(hb_logf(0.0f), 0xff800000u);
    assert_bits(hb_logf(-0.0f), 0xff800000u);
    assert_bits(hb_logf(infinity), 0x7f800000u);
    assert_true(isnan(hb_logf(-infinity)));
    assert_true(isnan(hb_logf(-0x1p-149f)));
    assert_bits(hb_tanhf(-0.0f), 0x80000000u);
    assert_bits(hb_tanhf(infinity), 0x3f800000u);
    assert_bits(hb_tanhf(-infinity), 0xbf800000u);
    assert_bits(hb_tanhf(0x1p-149f), 1);
    assert_bits(hb_erff(-0.0f), 0x80000000u);
    assert_bits(hb_erff(infinity), 0x3f800000u);
    assert_bits(hb_erff(-infinity), 0xbf800000u);
    assert_bits(hb_sigmoidf(0.0f), 0x3f000000u);
    assert_bits(hb_sigmoidf(infinity), 0x3f800000u);
    assert_bits(hb_sigmoidf(-infinity), 0);
}

/* Where two forms meet, which one is taken is part of the contract. */
static void test_meeting_points(void **state)
{
    (void)state;
    assert_bits(hb_tanhf(0.625f), hb_bits_of_f32(0x1.1bf48p-1f));
    assert_bits(hb_tanhf(-0.625f), hb_bits_of_f32(-0x1.1bf48p-1f));
    assert_bits(hb_erff(1.0f), hb_bits_of_f32(0x1.af767ap-1f));
}

/* FNV-1a over the results: the same with and without vectors, with every compiler, on every processor. */
static void test_pinned(void **state)
{
    (void)state;
    for (int k = 0; k < FUNCTIONS; k++)
        for (int form = 0; form <= (HAVE_VECTORS ? 1 : 0); form++) {
            uint64_t hash = UINT64_C(0xcbf29ce484222325);
            for (uint64_t first = 0; first < UINT64_C(1) << 32; first += BLOCK * 4093) {
                float x[BLOCK], y[BLOCK];
                fill(x, first, 4093);
                functions[k].each[form](x, y, BLOCK);
                for (int i = 0; i < BLOCK; i++) {
                    uint32_t bits = y[i] != y[i] ? 0x7fc00000u : hb_bits_of_f32(y[i]);
                    hash = (hash ^ bits) * UINT64_C(0x100000001b3);
                }
            }
            if (hash != functions[k].hash)
                fail_msg("%s: the bits have changed, hash is now %016llx", functions[k].name,
                         (unsigned long long)hash);
        }
}

/* A value must not depend on its neighbours or on where in a vector it stands. */
static void test_single(void **state)
{
    (void)state;
    float x[BLOCK], y[BLOCK];
    fill(x, 12345, 4194301);
    for (int k = 0; k < FUNCTIONS; k++) {
        quickest(&functions[k])(x, y, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            float alone;
            functions[k].each[0](&x[i], &alone, 1);
            if (y[i] == y[i] || alone == alone)
                assert_bits(alone, hb_bits_of_f32(y[i]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special), cmocka_unit_test(test_seams),  cmocka_unit_test(test_single),
        cmocka_unit_test(test_pinned),  cmocka_unit_test(test_bounds), cmocka_unit_test(test_meeting_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
