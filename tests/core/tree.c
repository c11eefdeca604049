/* The fold tree against its recursive definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "core/philox.h"
#include "core/tree.h"

enum { MAX = 80 };

struct found {
    bool node[MAX + 1][MAX + 1];
    bool right[MAX + 1][MAX + 1];
    struct hb_node parent[MAX + 1][MAX + 1], sibling[MAX + 1][MAX + 1];
};

/* The definition, word for word. */
static int64_t split(int64_t a, int64_t b)
{
    int64_t power = 1;
    while (power * 2 < b - a)
        power *= 2;
    return a + power;
}

static void descend(struct found *f, int64_t a, int64_t b)
{
    f->node[a][b] = true;
    if (b - a < 2)
        return;
    int64_t middle = split(a, b);
    f->parent[a][middle] = f->parent[middle][b] = (struct hb_node){a, b};
    f->right[middle][b] = true;
    f->sibling[a][middle] = (struct hb_node){middle, b};
    f->sibling[middle][b] = (struct hb_node){a, middle};
    descend(f, a, middle);
    descend(f, middle, b);
}

static void assert_node(struct hb_node a, struct hb_node b)
{
    assert_int_equal(a.begin, b.begin);
    assert_int_equal(a.end, b.end);
}

static void test_arithmetic(void **state)
{
    (void)state;
    for (int64_t total = 1; total <= MAX; total++) {
        static struct found f;
        memset(&f, 0, sizeof f);
        descend(&f, 0, total);
        for (int64_t a = -1; a <= MAX; a++)
            for (int64_t b = -1; b <= MAX; b++) {
                bool expected = a >= 0 && b >= 0 && f.node[a][b];
                assert_int_equal(hb_tree_is_node(a, b, total), expected);
                if (!expected)
                    continue;
                struct hb_node node = {a, b};
                if (b - a >= 2)
                    assert_int_equal(hb_tree_split(node), split(a, b));
                if (b - a == total)
                    continue;
                assert_int_equal(hb_tree_is_right(node, total), f.right[a][b]);
                assert_node(hb_tree_sibling(node, total), f.sibling[a][b]);
                assert_node(hb_tree_parent(node, total), f.parent[a][b]);
            }
    }
}

static void test_extremes(void **state)
{
    (void)state;
    assert_false(hb_tree_is_node(0, 0, 0));
    assert_false(hb_tree_is_node(INT64_MIN, INT64_MAX, INT64_MAX));
    assert_true(hb_tree_is_node(0, INT64_MAX, INT64_MAX));
    assert_false(hb_tree_is_node(1, INT64_MAX, INT64_MAX));
    assert_true(hb_tree_is_node(INT64_C(1) << 62, INT64_MAX, INT64_MAX));
    assert_true(hb_tree_split((struct hb_node){0, INT64_MAX}) == INT64_C(1) << 62);
    assert_true(hb_tree_is_node(INT64_MAX - 1, INT64_MAX, INT64_MAX));
    struct hb_node sibling = hb_tree_sibling((struct hb_node){0, INT64_C(1) << 62}, INT64_MAX);
    assert_node(sibling, (struct hb_node){INT64_C(1) << 62, INT64_MAX});
}

static float recursive_f32(const float *leaves, int64_t a, int64_t b)
{
    if (b - a == 1)
        return leaves[a];
    float left = recursive_f32(leaves, a, split(a, b));
    return left + recursive_f32(leaves, split(a, b), b);
}

static double recursive_f64(const double *leaves, int64_t a, int64_t b)
{
    if (b - a == 1)
        return leaves[a];
    double left = recursive_f64(leaves, a, split(a, b));
    return left + recursive_f64(leaves, split(a, b), b);
}

static void test_sums(void **state)
{
    (void)state;
    enum { MOST = 1100 };
    static float f[MOST], f_before[MOST];
    static double d[MOST];
    struct hb_random stream = hb_random_stream(3, HB_PURPOSE_TEST, 0, 0);
    for (int i = 0; i < MOST; i++) { /* sizes differ widely, so that another order would show */
        d[i] = hb_random_normal_f64(&stream, (uint64_t)i) * (i % 7 ? 1.0 : 1e5);
        f[i] = (float)d[i];
    }
    memcpy(f_before, f, sizeof f);
    int64_t same_as_sequential = 0;
    float sequential = 0.0f;
    for (int64_t n = 1; n <= MOST; n++) {
        float sum = hb_tree_sum_f32(f, n), expected = recursive_f32(f, 0, n);
        assert_memory_equal(&sum, &expected, sizeof sum);
        double sum_d = hb_tree_sum_f64(d, n), expected_d = recursive_f64(d, 0, n);
        assert_memory_equal(&sum_d, &expected_d, sizeof sum_d);
        sequential += f[n - 1];
        same_as_sequential += sequential == sum;
    }
    assert_true(same_as_sequential < MOST / 2); /* the data can tell orders apart */
    assert_memory_equal(f, f_before, sizeof f);
}

static void test_small_sums(void **state)
{
    (void)state;
    float zero = hb_tree_sum_f32(NULL, 0), minus[2] = {-0.0f, -0.0f};
    double zero_d = hb_tree_sum_f64(NULL, 0);
    assert_true(zero == 0.0f && !signbit(zero) && zero_d == 0.0 && !signbit(zero_d));
    assert_true(signbit(hb_tree_sum_f32(minus, 1)) && signbit(hb_tree_sum_f32(minus, 2)));
    float three[3] = {1.0f, 0x1p-24f, 0x1p-24f}; /* (1 + e) + e, not 1 + (e + e) */
    assert_true(hb_tree_sum_f32(three, 3) == 1.0f);
    float four[4] = {1.0f, 0.0f, 0x1p-24f, 0x1p-24f}; /* (1 + 0) + (e + e) */
    assert_true(hb_tree_sum_f32(four, 4) == 1.0f + 0x1p-23f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_small_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
