/* The bound's arithmetic, and what no bound forgives. */
#include "verify/support.h"

#include <math.h>

#include "verify/compare.h"

static struct hb_comparison one(enum hb_dtype dtype, double got, double expected, float terms, int64_t steps)
{
    float f = (float)got;
    uint16_t half = dtype == HB_BF16 ? hb_bf16_of_f32(f) : hb_f16_of_f32(f);
    const void *data = dtype == HB_F64 ? (const void *)&got : dtype == HB_F32 ? (const void *)&f : &half;
    return hb_compare_bound(dtype, data, &expected, &terms, 1, steps);
}

/* Up to n = 16 the worst case n u is the gate, beyond it 4 sqrt(n) u. */
static void test_gate(void **state)
{
    const double u = 0x1p-24;
    (void)state;
    static const struct {
        int64_t steps;
        double factor;
    } rows[] = {{4, 4}, {16, 16}, {100, 40}, {10000, 400}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double step = rows[i].factor * u * 8; /* terms add up to 8 */
        /* Expected values carry the offset: fp32 holds 1 exactly. */
        assert_int_equal(one(HB_F32, 1, 1 + 0.999 * step, 8, rows[i].steps).first, -1);
        assert_int_equal(one(HB_F32, 1, 1 + 1.001 * step, 8, rows[i].steps).first, 0);
        assert_int_equal(one(HB_F32, 1, 1 - 1.001 * step, 8, rows[i].steps).first, 0);
        struct hb_comparison half = one(HB_F32, 1, 1 + 0.5 * step, 8, rows[i].steps);
        assert_true(fabs(half.share - 0.5) < 1e-3);
        assert_true(half.worst <= half.share + 1e-12);
    }
}

/* Storage adds its own rounding, and its denormal step. */
static void test_storage(void **state)
{
    (void)state;
    assert_int_equal(one(HB_BF16, 1, 1 + 0x1p-8, 1, 1).first, -1);
    assert_int_equal(one(HB_BF16, 1, 1 + 0x1.1p-8, 1, 1).first, 0);
    assert_int_equal(one(HB_F16, 1, 1 + 0x1p-11, 1, 1).first, -1);
    assert_int_equal(one(HB_F16, 1, 1 + 0x1.1p-11, 1, 1).first, 0);
    assert_int_equal(one(HB_F16, 0, 0x1p-25, 0, 1).first, -1);
    assert_int_equal(one(HB_F16, 0, 0x1.1p-24, 0, 1).first, 0);
    assert_int_equal(one(HB_F64, 1, 1 + 0x1p-52, 1, 1).first, -1);
    assert_int_equal(one(HB_F64, 1, 1 + 0x1p-50, 1, 1).first, 0);
}

static void test_not_finite(void **state)
{
    (void)state;
    assert_int_equal(one(HB_F32, NAN, 1, 1e30f, 1000).first, 0);
    assert_true(isinf(one(HB_F32, NAN, 1, 1, 1).share));
    assert_int_equal(one(HB_F32, 1, NAN, 1, 1).first, 0);
    assert_int_equal(one(HB_F32, NAN, NAN, 1, 1).first, -1);
    assert_int_equal(one(HB_F32, INFINITY, 1, 1e30f, 1000).first, 0);
    assert_int_equal(one(HB_F32, INFINITY, INFINITY, 1, 1).first, -1);
    assert_int_equal(one(HB_F32, INFINITY, -INFINITY, 1, 1).first, 0);
}

/* The first wrong element, and the worst one, are different questions. */
static void test_places(void **state)
{
    const float got[] = {1, 2, 3, 4}, terms[] = {1, 1, 1, 1};
    const double expected[] = {1, 2.5, 3, 400};
    (void)state;
    struct hb_comparison c = hb_compare_bound(HB_F32, got, expected, terms, 4, 2);
    assert_int_equal(c.first, 1);
    assert_int_equal(c.at, 3);
    assert_true(c.got == 2 && c.error == 0.5);
}

static void test_bits(void **state)
{
    const float a[] = {0.0f, NAN, 1.0f}, b[] = {0.0f, -NAN, 1.0f}, zero[] = {-0.0f, NAN, 1.0f};
    const uint16_t quiet[] = {0x7fc0, 0x3f80}, other[] = {0xffc1, 0x3f80};
    const int32_t i[] = {1, 2, 3}, j[] = {1, 2, 4};
    (void)state;
    assert_int_equal(hb_compare_bits(HB_F32, a, b, 3), -1);
    assert_int_equal(hb_compare_bits(HB_F32, a, zero, 3), 0);
    assert_int_equal(hb_compare_bits(HB_BF16, quiet, other, 2), -1);
    assert_int_equal(hb_compare_bits(HB_I32, i, j, 3), 2);
    assert_int_equal(hb_compare_bits(HB_F32, a, b, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gate),   cmocka_unit_test(test_storage), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_places), cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
