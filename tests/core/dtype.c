/* Conversions to and from bf16 and fp16 against plain double arithmetic.
 * HB_TEST_FULL=1 visits all 2^32 floats (about 2 minutes of processor time). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "core/dtype.h"

/* A format of 16 bits: digits behind the point, smallest normal exponent, exponent bias. */
struct format {
    const char *name;
    int digits, smallest, bias;
    uint16_t infinity, nan;
    uint16_t (*from)(float);
    float (*to)(uint16_t);
};

static const struct format formats[] = {
    {"bf16", 7, -126, 127, 0x7f80, 0x7fc0, hb_bf16_of_f32, hb_f32_of_bf16},
    {"f16", 10, -14, 15, 0x7c00, 0x7e00, hb_f16_of_f32, hb_f32_of_f16},
};

/* The value of 16 bits, by the definition of the format. */
static double value_of(const struct format *f, uint16_t h)
{
    int exponent = (h & 0x7fff) >> f->digits, mantissa = h & ((1 << f->digits) - 1);
    double value = exponent ? ldexp(mantissa + (1 << f->digits), exponent - f->bias - f->digits)
                            : ldexp(mantissa, f->smallest - f->digits);
    return h & 0x8000 ? -value : value;
}

/* The nearest of the format: the float in units of its last digit there, rounded by the C library. */
static uint16_t nearest(const struct format *f, float x)
{
    if (x != x)
        return f->nan;
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs((double)x);
    if (isinf(magnitude))
        return sign | f->infinity;
    int exponent = 0;
    frexp(magnitude, &exponent);
    exponent = exponent - 1 < f->smallest || x == 0.0f ? f->smallest : exponent - 1;
    double units = rint(ldexp(magnitude, f->digits - exponent)); /* ties to even */
    /* Denormals have exponent field 0; a carry into the next exponent adds up by itself. */
    double field = units + ldexp(exponent - f->smallest, f->digits);
    return sign | (field > f->infinity ? f->infinity : (uint16_t)field);
}

static void test_all_halves(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (uint32_t h = 0; h < 65536; h++) {
            const struct format *f = &formats[k];
            float x = f->to((uint16_t)h);
            if ((h & 0x7fff) > f->infinity) {
                assert_true(x != x);
                assert_int_equal(f->from(x), f->nan);
                continue;
            }
            if ((h & 0x7fff) == f->infinity)
                assert_true(isinf(x) && !signbit(x) == !(h & 0x8000));
            else
                assert_true((double)x == value_of(f, (uint16_t)h) && !signbit(x) == !(h & 0x8000));
            assert_int_equal(f->from(x), h);
        }
}

static void check(const struct format *f, uint32_t bits)
{
    float x = hb_f32_of_bits(bits);
    uint16_t h = f->from(x), expected = nearest(f, x);
    if (h != expected)
        fail_msg("%s of %a (%08x) is %04x, not %04x", f->name, (double)x, bits, h, expected);
}

static void test_floats(void **state)
{
    (void)state;
    int64_t stride = getenv("HB_TEST_FULL") ? 1 : 1021, floats = INT64_C(1) << 32;
    for (int k = 0; k < 2; k++) {
        const struct format *f = &formats[k];
        int64_t wrong = floats;
#pragma omp parallel for reduction(min : wrong)
        for (int64_t bits = 0; bits < floats; bits += stride) {
            float x = hb_f32_of_bits((uint32_t)bits);
            if (f->from(x) != nearest(f, x) && bits < wrong)
                wrong = bits;
        }
        if (wrong < floats)
            check(f, (uint32_t)wrong); /* says what is wrong */
    }
}

/* At and beside the middle between any two neighbours. */
static void test_ties(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (uint32_t h = 0; h < formats[k].infinity; h++) {
            const struct format *f = &formats[k];
            double low = value_of(f, (uint16_t)h);
            double high = value_of(f, (uint16_t)(h + 1)); /* of infinity's bits: the next power of two */
            uint32_t middle = hb_bits_of_f32((float)((low + high) / 2));
            for (uint32_t sign = 0; sign < 2; sign++)
                for (int d = -1; d <= 1; d++)
                    check(f, (middle + (uint32_t)d) | sign << 31);
        }
}

/* Stochastic rounding over every value of the 16 random bits that bf16 uses: as many go up as the
 * lost bits say, none leaves the two neighbours, and numbers of the format stay. */
static void check_random(float x, bool half, int lost, uint32_t rest)
{
    uint16_t (*round)(float, uint32_t) = half ? hb_f16_of_f32_random : hb_bf16_of_f32_random;
    uint16_t low = round(x, 0);
    uint32_t up = 0;
    for (uint32_t r = 0; r < UINT32_C(1) << lost; r++) {
        uint16_t h = round(x, r << (32 - lost) | 0x5a5u);
        assert_true(h == low || h == low + 1);
        up += h != low;
    }
    assert_int_equal(up, rest);
}

static void test_random(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t rest = i * 5461 + i / 6, sign = i % 2 << 31;
        check_random(hb_f32_of_bits(sign | 0x3f800000u | i << 18 | rest), false, 16, rest); /* normal */
        check_random(hb_f32_of_bits(sign | i << 16 | rest), false, 16, rest);               /* denormal */
        check_random(hb_f32_of_bits(sign | 0x3f800000u | i << 18 | (rest & 0x1fff)), true, 13, rest & 0x1fff);
        check_random(hb_f32_of_bits(sign | 0x37000000u | rest), true, 16, rest);            /* denormal */
    }
    /* 2^-26 becomes 2^-24 once in four times, 2^-40 once in 2^16, 2^-60 never. */
    assert_int_equal(hb_f16_of_f32_random(0x1p-26f, 0xbfffffffu), 0);
    assert_int_equal(hb_f16_of_f32_random(-0x1p-26f, 0xc0000000u), 0x8001);
    assert_int_equal(hb_f16_of_f32_random(0x1p-40f, 0xfffeffffu), 0);
    assert_int_equal(hb_f16_of_f32_random(0x1p-40f, 0xffff0000u), 1);
    assert_int_equal(hb_f16_of_f32_random(0x1p-60f, 0xffffffffu), 0);
    for (uint32_t h = 0; h < 65536; h++)
        for (int k = 0; k < 2; k++) {
            const struct format *f = &formats[k];
            uint16_t (*round)(float, uint32_t) = k ? hb_f16_of_f32_random : hb_bf16_of_f32_random;
            float x = f->to((uint16_t)h);
            uint16_t expected = x != x ? f->nan : (uint16_t)h;
            assert_int_equal(round(x, 0), expected);
            assert_int_equal(round(x, 0xffffffffu), expected);
        }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        enum hb_dtype dtype;
        const char *name;
        size_t size;
    } all[HB_DTYPE_COUNT] = {
        {HB_F64, "f64", 8}, {HB_F32, "f32", 4}, {HB_BF16, "bf16", 2}, {HB_F16, "f16", 2},
        {HB_I64, "i64", 8}, {HB_I32, "i32", 4}, {HB_U8, "u8", 1},
    };
    for (int i = 0; i < HB_DTYPE_COUNT; i++) {
        assert_string_equal(hb_dtype_name(all[i].dtype), all[i].name);
        assert_int_equal(hb_dtype_size(all[i].dtype), all[i].size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
