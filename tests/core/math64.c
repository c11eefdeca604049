/* fp64 elementary functions: error bounds against the C library in long
 * double, special values, known values far from 0, and a pinned hash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/math64.h"
#include "core/philox.h"

static struct hb_random stream;

static double uniform(uint64_t i)
{
    return hb_random_uniform_f64(&stream, i);
}

static long double sigmoidl(long double x)
{
    return x < 0.0L ? expl(x) / (1.0L + expl(x)) : 1.0L / (1.0L + expl(-x));
}

static double error_of(double y, long double truth)
{
    if (y != y || truth != truth)
        return y != y && truth != truth ? 0.0 : 1e30;
    long double magnitude = fabsl(truth);
    int exponent;
    frexpl(magnitude, &exponent);
    long double unit = magnitude < (long double)DBL_MIN ? 0x1p-1074L : ldexpl(1.0L, exponent - 53);
    return (double)(fabsl((long double)y - truth) / unit);
}

/* Arguments: uniform in [low, high], or +-2^(uniform in [low, high]) when `powers`. */
static const struct range {
    const char *name;
    double (*function)(double);
    long double (*truth)(long double);
    double low, high;
    int powers, positive;
    double bound;
} ranges[] = {
    {"exp", hb_exp64, expl, -708.0, 709.78, 0, 0, 0.52},
    {"exp, denormal results", hb_exp64, expl, -745.2, -708.0, 0, 0, 1.0},
    {"exp, small", hb_exp64, expl, -1.0, 1.0, 0, 0, 0.52},
    {"log", hb_log64, logl, -1074.0, 1024.0, 1, 1, 0.51},
    {"log near 1", hb_log64, logl, 0.5, 2.0, 0, 0, 0.51},
    {"log nearer 1", hb_log64, logl, 0.9999, 1.0001, 0, 0, 0.51},
    {"sin", hb_sin64, sinl, -1e6, 1e6, 0, 0, 0.73},
    {"sin, all sizes", hb_sin64, sinl, -1074.0, 30.0, 1, 0, 0.73},
    {"sin, first turns", hb_sin64, sinl, -7.0, 7.0, 0, 0, 0.73},
    {"cos", hb_cos64, cosl, -1e6, 1e6, 0, 0, 0.73},
    {"cos, all sizes", hb_cos64, cosl, -1074.0, 30.0, 1, 0, 0.73},
    {"cos, first turns", hb_cos64, cosl, -7.0, 7.0, 0, 0, 0.73},
    {"tanh", hb_tanh64, tanhl, -25.0, 25.0, 0, 0, 0.57},
    {"tanh, all sizes", hb_tanh64, tanhl, -1074.0, 10.0, 1, 0, 0.57},
    {"sigmoid", hb_sigmoid64, sigmoidl, -708.0, 50.0, 0, 0, 2.3},
    {"sigmoid, middle", hb_sigmoid64, sigmoidl, -20.0, 20.0, 0, 0, 2.3},
    {"erf", hb_erf64, erfl, -6.5, 6.5, 0, 0, 1.1},
    {"erf, all sizes", hb_erf64, erfl, -1074.0, 10.0, 1, 0, 1.1},
};

static double argument(const struct range *r, uint64_t i)
{
    double x = r->low + (r->high - r->low) * uniform(2 * i);
    if (!r->powers)
        return x;
    x = (double)exp2l((long double)x);
    return r->positive || uniform(2 * i + 1) < 0.5 ? x : -x;
}

static void test_bounds(void **state)
{
    (void)state;
    if (LDBL_MANT_DIG < 64) {
        print_message("skipped: long double is no wider than double here\n");
        skip();
    }
    for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++) {
        double worst = 0.0, at = 0.0;
        for (uint64_t i = 0; i < 200000; i++) {
            double x = argument(&ranges[k], i);
            double error = error_of(ranges[k].function(x), ranges[k].truth((long double)x));
            if (!(error <= worst)) {
                worst = error;
                at = x;
            }
        }
        print_message("%-22s largest error %.4f units at %a (bound %.2f)\n", ranges[k].name, worst, at,
                      ranges[k].bound);
        assert_true(worst <= ranges[k].bound);
    }
}

static void check_pow(double x, double y, double *worst)
{
    long double truth = powl((long double)x, (long double)y);
    if (truth < (long double)DBL_MIN || truth > (long double)DBL_MAX)
        return;
    double error = error_of(hb_pow64(x, y), truth);
    if (!(error <= *worst))
        *worst = error;
}

static void test_pow(void **state)
{
    (void)state;
    if (LDBL_MANT_DIG < 64)
        skip();
    double worst = 0.0;
    static const double thetas[] = {1e4, 5e5, 1e6, 1e7};
    for (int t = 0; t < 4; t++) /* frequencies of RoPE */
        for (int d = 2; d <= 256; d += 2)
            for (int i = 0; i < d; i += 2)
                check_pow(thetas[t], -(double)i / d, &worst);
    for (int s = 0; s < 100000; s++) { /* bias correction */
        check_pow(0.9, s, &worst);
        check_pow(0.95, s, &worst);
        check_pow(0.999, s, &worst);
    }
    for (uint64_t i = 0; i < 200000; i++)
        check_pow((double)exp2l(100.0L * (long double)uniform(2 * i) - 50.0L),
                  50.0 * uniform(2 * i + 1) - 25.0, &worst);
    print_message("%-22s largest error %.4f units (bound 0.53)\n", "pow", worst);
    assert_true(worst <= 0.53);
}

/* Correctly rounded values from arbitrary-precision arithmetic: also checked where long double is double. */
static void test_known(void **state)
{
    (void)state;
    static const struct {
        double (*function)(double);
        double x, y;
    } known[] = {
        {hb_sin64, 0x1.6c6cbc45dc8dep+5, 0x1p+0},
        {hb_cos64, 0x1.6c6cbc45dc8dep+5, -0x1.6d61b58c99c43p-61},
        {hb_sin64, 0x1.6c6cbc45dc8dep+6, -0x1.6d61b58c99c43p-60},
        {hb_cos64, 0x1.6c6cbc45dc8dep+6, -0x1p+0},
        {hb_sin64, 0x1.b951f1572eba5p+23, -0x1p+0},
        {hb_cos64, 0x1.b951f1572eba5p+23, -0x1.f54f5227a4e84p-60},
        {hb_sin64, 0x1.6c6cbc45dc8dep+7, 0x1.6d61b58c99c43p-59},
        {hb_cos64, 0x1.6c6cbc45dc8dep+7, 0x1p+0},
        {hb_sin64, 0x1.b951f1572eba5p+24, 0x1.f54f5227a4e84p-59},
        {hb_cos64, 0x1.b951f1572eba5p+24, -0x1p+0},
        {hb_sin64, 0x1.6c6cbc45dc8dep+8, 0x1.6d61b58c99c43p-58},
        {hb_cos64, 0x1.6c6cbc45dc8dep+8, 0x1p+0},
        {hb_sin64, 0x1.e848p+19, -0x1.6664b2568d867p-2},
        {hb_cos64, 0x1.e848p+19, 0x1.df9df9906d32cp-1},
        {hb_sin64, -0x1.e847fp+19, 0x1.833357b1489f3p-1},
        {hb_cos64, -0x1.e847fp+19, 0x1.4efdfc640fc4dp-1},
        {hb_sin64, 0x1p+30, -0x1.3c12353728cafp-1},
        {hb_cos64, 0x1p+30, 0x1.92cb46a920144p-1},
        {hb_sin64, 0x1.ffffp+16, -0x1.268613f60babcp-1},
        {hb_cos64, 0x1.ffffp+16, -0x1.a2cebbb513e7cp-1},
        {hb_sin64, 0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53},
        {hb_cos64, 0x1.921fb54442d18p+1, -0x1p+0},
        {hb_sin64, 0x1.921fb54442d18p+0, 0x1p+0},
        {hb_cos64, 0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54},
        {hb_sin64, 0x1.921fb54442d18p-1, 0x1.6a09e667f3bccp-1},
        {hb_cos64, 0x1.921fb54442d18p-1, 0x1.6a09e667f3bcdp-1},
        {hb_sin64, 0x1.bb5ed05029p+16, -0x1.b06a6c084ba2ap-3},
        {hb_cos64, 0x1.bb5ed05029p+16, -0x1.f47513aff930ep-1},
        {hb_exp64, 0x1p+0, 0x1.5bf0a8b145769p+1},
        {hb_exp64, -0x1p+0, 0x1.78b56362cef38p-2},
        {hb_exp64, 0x1p-1, 0x1.a61298e1e069cp+0},
        {hb_exp64, 0x1.628p+9, 0x1.d422d2be5dc9bp+1022},
        {hb_exp64, -0x1.62p+9, 0x1.7c8ab2288c9abp-1022},
        {hb_exp64, 0x1.12e0be826d695p-30, 0x1.000000044b83p+0},
        {hb_exp64, 0x1.62e42fefa39efp-2, 0x1.6a09e667f3bccp+0},
        {hb_log64, 0x1p+1, 0x1.62e42fefa39efp-1},
        {hb_log64, 0x1.4p+3, 0x1.26bb1bbb55516p+1},
        {hb_log64, 0x0.0000000000001p-1022, -0x1.74385446d71c3p+9},
        {hb_log64, 0x1.e42d130773b76p+1023, 0x1.62dd08fdc6f88p+9},
        {hb_log64, 0x1.6a09e667f3bccp-1, -0x1.62e42fefa39f1p-2},
        {hb_log64, 0x1.6a09e667f3bccp+0, 0x1.62e42fefa39eep-2},
        {hb_log64, 0x1.0000000000001p+0, 0x1.fffffffffffffp-53},
        {hb_tanh64, 0x1.999999999999ap-4, 0x1.983d7795f413ap-4},
        {hb_tanh64, 0x1.1916872b020c5p-1, 0x1.ffc3cce48227ep-2},
        {hb_tanh64, 0x1p+0, 0x1.85efab514f394p-1},
        {hb_tanh64, 0x1p+3, 0x1.fffff872a91f8p-1},
        {hb_tanh64, 0x1.0333333333333p+3, 0x1.fffff9d11d966p-1},
        {hb_tanh64, 0x1.2333333333333p+4, 0x1.ffffffffffffdp-1},
        {hb_tanh64, 0x1.3p+4, 0x1.fffffffffffffp-1},
        {hb_erf64, 0x1.999999999999ap-4, 0x1.cca5ea24fb334p-4},
        {hb_erf64, 0x1.ff7ced916872bp-1, 0x1.af4003d2e0fcap-1},
        {hb_erf64, 0x1p+0, 0x1.af767a741088bp-1},
        {hb_erf64, 0x1p+1, 0x1.fd9ae142795e3p-1},
        {hb_erf64, 0x1.cp+1, 0x1.ffffe710d565ep-1},
        {hb_erf64, 0x1.7333333333333p+2, 0x1.ffffffffffffep-1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double y = known[i].function(known[i].x);
        if (!(fabs(y - known[i].y) <= 1.01 * fabs(nextafter(known[i].y, INFINITY) - known[i].y)))
            fail_msg("case %zu: f(%a) = %a instead of %a", i, known[i].x, y, known[i].y);
    }
}

static void assert_same(double a, double b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_special(void **state)
{
    (void)state;
    double (*const all[])(double) = {hb_exp64,  hb_log64, hb_sin64,    hb_cos64,
                                     hb_tanh64, hb_erf64, hb_sigmoid64};
    for (int k = 0; k < 7; k++)
        assert_true(isnan(all[k]((double)NAN)));
    const double infinity = (double)INFINITY;
    assert_same(hb_exp64(0.0), 1.0);
    assert_same(hb_exp64(infinity), infinity);
    assert_same(hb_exp64(710.0), infinity);
    assert_same(hb_exp64(-infinity), 0.0);
    assert_same(hb_exp64(-1e308), 0.0);
    assert_same(hb_exp64(-745.0), 0x1p-1074);
    assert_same(hb_log64(1.0), 0.0);
    assert_same(hb_log64(0.0), -infinity);
    assert_same(hb_log64(-0.0), -infinity);
    assert_same(hb_log64(infinity), infinity);
    assert_true(isnan(hb_log64(-1.0)));
    assert_same(hb_sin64(-0.0), -0.0);
    assert_same(hb_sin64(0x1p-1074), 0x1p-1074);
    assert_same(hb_cos64(0.0), 1.0);
    assert_true(isnan(hb_sin64(0x1.0000000000001p+30)) && isnan(hb_cos64(-infinity)));
    assert_same(hb_tanh64(-0.0), -0.0);
    assert_same(hb_tanh64(-infinity), -1.0);
    assert_same(hb_tanh64(0x1p-1074), 0x1p-1074);
    assert_same(hb_erf64(-0.0), -0.0);
    assert_same(hb_erf64(-infinity), -1.0);
    assert_same(hb_sigmoid64(0.0), 0.5);
    assert_same(hb_sigmoid64(-infinity), 0.0);
    assert_same(hb_sigmoid64(infinity), 1.0);
    assert_same(hb_pow64(2.0, 10.0), 1024.0);
    assert_same(hb_pow64(2.0, -1074.0), 0x1p-1074);
    assert_same(hb_pow64(2.0, 1024.0), infinity);
    assert_same(hb_pow64(10.0, 22.0), 1e22);
    assert_same(hb_pow64(0.999, 0.0), 1.0);
    assert_same(hb_pow64(1.0, infinity), 1.0);
    assert_same(hb_pow64(0.0, 2.0), 0.0);
    assert_same(hb_pow64(0.0, -2.0), infinity);
    assert_same(hb_pow64(infinity, 0.5), infinity);
    assert_same(hb_pow64(infinity, -0.5), 0.0);
    assert_same(hb_pow64(0.5, infinity), 0.0);
    assert_same(hb_pow64(2.0, infinity), infinity);
    assert_same(hb_pow64(2.0, -infinity), 0.0);
    assert_true(isnan(hb_pow64(-2.0, 2.0)));
    assert_true(isnan(hb_pow64((double)NAN, 0.0)) && isnan(hb_pow64(1.0, (double)NAN)));
}

static uint64_t mix(uint64_t hash, double y)
{
    uint64_t bits = 0;
    if (y == y)
        memcpy(&bits, &y, sizeof bits);
    return (hash ^ bits) * UINT64_C(0x100000001b3);
}

/* The same bits with every compiler, on every processor. */
static void test_pinned(void **state)
{
    (void)state;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint64_t i = 0; i < 20000; i++) {
        double x = (uniform(i) - 0.5) * (double)(INT64_C(1) << (i % 31));
        hash = mix(hash, hb_exp64(x));
        hash = mix(hash, hb_log64(x));
        hash = mix(hash, hb_sin64(x));
        hash = mix(hash, hb_cos64(x));
        hash = mix(hash, hb_tanh64(x));
        hash = mix(hash, hb_erf64(x));
        hash = mix(hash, hb_sigmoid64(x));
        hash = mix(hash, hb_pow64(uniform(i), x));
    }
    if (hash != UINT64_C(0xb77143c1f43d9fdb))
        fail_msg("the bits have changed, hash is now %016llx", (unsigned long long)hash);
}

int main(void)
{
    stream = hb_random_stream(1, HB_PURPOSE_TEST, 0, 64);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special), cmocka_unit_test(test_known),  cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pow),     cmocka_unit_test(test_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
