/* Philox: Random123's known answers, the layout of key and counter, and that
 * the numbers look like what they are said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "core/philox.h"

static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = { /* philox4x32 with 10 rounds in Random123's kat_vectors */
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        hb_philox4x32_10(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

/* Builds key and counter by hand as the header prints them. */
static void test_layout(void **state)
{
    (void)state;
    uint64_t seed = UINT64_C(0x0123456789abcdef), step = UINT64_C(0xfedcba9876543210);
    uint64_t subject = UINT64_C(0x1122334455667788), block = UINT64_C(0x99aabbccddeeff00);
    struct hb_random stream = hb_random_stream(seed, HB_PURPOSE_ROUND, step, subject);
    uint32_t key[4], expected[4], out[4];
    hb_philox4x32_10((const uint32_t[4]){0x76543210, 0xfedcba98, 4, 0},
                     (const uint32_t[2]){0x89abcdef, 0x01234567}, key);
    hb_philox4x32_10((const uint32_t[4]){0xddeeff00, 0x99aabbcc, 0x55667788, 0x11223344}, key, expected);
    hb_random_u32x4(&stream, block, out);
    assert_memory_equal(out, expected, sizeof out);

    hb_random_u32x4(&stream, 5, out);
    assert_true(hb_random_u64(&stream, 10) == ((uint64_t)out[1] << 32 | out[0]));
    assert_true(hb_random_u64(&stream, 11) == ((uint64_t)out[3] << 32 | out[2]));
    assert_true(hb_random_uniform_f64(&stream, 11) == (double)(hb_random_u64(&stream, 11) >> 11) / 0x1p+53);

    double pair[2];
    hb_random_normal_pair(&stream, 5, pair);
    assert_true(hb_random_normal_f64(&stream, 10) == pair[0]);
    assert_true(hb_random_normal_f64(&stream, 11) == pair[1]);
    double radius = sqrt(-2.0 * log(((double)(hb_random_u64(&stream, 10) >> 11) + 1.0) / 0x1p+53));
    double turn = 6.283185307179586 * hb_random_uniform_f64(&stream, 11);
    assert_true(fabs(pair[0] - radius * cos(turn)) <= 1e-14);
    assert_true(fabs(pair[1] - radius * sin(turn)) <= 1e-14);
}

/* Each of the five inputs alone changes the stream. */
static void test_inputs(void **state)
{
    (void)state;
    struct hb_random streams[] = {
        hb_random_stream(1, HB_PURPOSE_INIT, 0, 7),    hb_random_stream(2, HB_PURPOSE_INIT, 0, 7),
        hb_random_stream(1, HB_PURPOSE_SHUFFLE, 0, 7), hb_random_stream(1, HB_PURPOSE_INIT, 1, 7),
        hb_random_stream(1, HB_PURPOSE_INIT, 0, 8),
        hb_random_stream(1, HB_PURPOSE_INIT, UINT64_C(1) << 32, 7),
        hb_random_stream(UINT64_C(1) << 32 | 1, HB_PURPOSE_INIT, 0, 7),
        hb_random_stream(1, HB_PURPOSE_INIT, 0, UINT64_C(1) << 32 | 7),
    };
    enum { COUNT = sizeof streams / sizeof *streams, BLOCKS = 8 };
    uint64_t words[COUNT * BLOCKS];
    for (int s = 0; s < COUNT; s++)
        for (int i = 0; i < BLOCKS; i++)
            words[s * BLOCKS + i] = hb_random_u64(&streams[s], (uint64_t)i);
    for (int a = 0; a < COUNT * BLOCKS; a++)
        for (int b = 0; b < a; b++)
            assert_true(words[a] != words[b]);
}

/* Means of n samples lie within 5 standard deviations of what they must be. */
static void test_moments(void **state)
{
    (void)state;
    struct hb_random a = hb_random_stream(42, HB_PURPOSE_TEST, 0, 1);
    struct hb_random b = hb_random_stream(42, HB_PURPOSE_TEST, 0, 2);
    const int pairs = 100000;
    double n = 2.0 * pairs, u1 = 0, u2 = 0, m1 = 0, m2 = 0, m3 = 0, m4 = 0, within = 0, across = 0, tail = 0;
    for (int p = 0; p < pairs; p++) {
        double x[2], y[2];
        hb_random_normal_pair(&a, (uint64_t)p, x);
        hb_random_normal_pair(&b, (uint64_t)p, y);
        within += x[0] * x[1];
        across += x[0] * y[0];
        for (int k = 0; k < 2; k++) {
            double u = hb_random_uniform_f64(&a, (uint64_t)(2 * p + k));
            assert_true(u >= 0.0 && u < 1.0);
            u1 += u;
            u2 += u * u;
            m1 += x[k];
            m2 += x[k] * x[k];
            m3 += x[k] * x[k] * x[k];
            m4 += x[k] * x[k] * x[k] * x[k];
            tail += fabs(x[k]) > 2.0;
        }
    }
    assert_true(fabs(u1 / n - 0.5) <= 5 * sqrt(1 / 12.0 / n));
    assert_true(fabs(u2 / n - 1 / 3.0) <= 5 * sqrt(4 / 45.0 / n));
    assert_true(fabs(m1 / n) <= 5 * sqrt(1 / n));
    assert_true(fabs(m2 / n - 1.0) <= 5 * sqrt(2 / n));
    assert_true(fabs(m3 / n) <= 5 * sqrt(15 / n));
    assert_true(fabs(m4 / n - 3.0) <= 5 * sqrt(96 / n));
    assert_true(fabs(within / pairs) <= 5 * sqrt(1.0 / pairs));
    assert_true(fabs(across / pairs) <= 5 * sqrt(1.0 / pairs));
    assert_true(fabs(tail / n - 0.04550026389635842) <= 5 * sqrt(0.0455 * 0.9545 / n));
}

/* The same bits with every compiler, on every processor: they start every training run. */
static void test_pinned(void **state)
{
    (void)state;
    struct hb_random stream = hb_random_stream(1234, HB_PURPOSE_INIT, 0, UINT64_C(0xd24ec4f1a98c6e5b));
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint64_t i = 0; i < 10000; i++) {
        double x = hb_random_normal_f64(&stream, i * i * i);
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x100000001b3);
    }
    if (hash != UINT64_C(0x6c1dd17682c56e40))
        fail_msg("the numbers have changed, hash is now %016llx", (unsigned long long)hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_layout), cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_moments),       cmocka_unit_test(test_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
