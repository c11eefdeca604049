/* The fold: leaves in any order give the sum along the one tree, to the bit.
 * The expected sum is computed here by recursion, and the leaves are written as
 * an op writes them. */
#include "tape/gradients.h"

#include <stdio.h>

#include "core/tree.h"
#include "cpu/select.h"
#include "ref/backend.h"

#include "ops/harness.h"

enum { MOST = 9, PARTS = 4, EACH = 6, ELEMENTS = PARTS * EACH };

static struct hb_context context;
static struct hb_gradients gradients;

/* What each microbatch contributes. */
struct leaves {
    float value[MOST][ELEMENTS];
    bool present[MOST][PARTS];
    bool whole[MOST];
};

static void make_leaves(struct leaves *leaves, uint64_t seed)
{
    float *numbers = th_numbers(TH_NORMAL, seed, MOST * ELEMENTS);
    int32_t *choice = th_integers(seed + 1, MOST * ELEMENTS, 8),
            *flags = th_integers(seed + 2, MOST * PARTS, 5);
    int32_t *whole = th_integers(seed + 3, MOST, 2);
    for (int m = 0; m < MOST; m++) {
        leaves->whole[m] = whole[m];
        for (int p = 0; p < PARTS; p++)
            leaves->present[m][p] =
                p == PARTS - 1 ? false : flags[m * PARTS + p] < 3; /* one part is always absent */
        for (int i = 0; i < ELEMENTS; i++) {
            float x = numbers[m * ELEMENTS + i];
            /* Sums that depend on their order, and zeros of both signs. */
            static const float scale[] = {1, 1, 1, 1e3f, 1, 1e-2f, -0.0f, 0.0f};
            leaves->value[m][i] = i % EACH == 0 ? -0.0f : x * scale[choice[m * ELEMENTS + i]];
        }
    }
    free(numbers);
    free(choice);
    free(flags);
    free(whole);
}

/* --- the expected root, by recursion --- */

struct sum {
    float value;
    bool present;
};

static struct sum expected_sum(const struct leaves *leaves, int begin, int end, int element, bool flags)
{
    if (end - begin == 1)
        return (struct sum){leaves->value[begin][element], !flags || leaves->present[begin][element / EACH]};
    int half = 1;
    while (2 * half < end - begin)
        half *= 2;
    struct sum left = expected_sum(leaves, begin, begin + half, element, flags);
    struct sum right = expected_sum(leaves, begin + half, end, element, flags);
    if (!left.present || !right.present)
        return left.present ? left : right;
    return (struct sum){left.value + right.value, true};
}

static float expected(const struct leaves *leaves, int total, int element, bool flags)
{
    struct sum root = expected_sum(leaves, 0, total, element, flags);
    return root.present ? root.value : 0.0f;
}

/* --- a parameter, and leaves as ops write them --- */

static void open_param(struct hb_param *param, bool flags, int uses)
{
    *param = (struct hb_param){.name = "stack", .groups = 1, .trained = true, .use_count = uses};
    param->value = hb_tensor_2d(&context, NULL, HB_F32, PARTS, EACH);
    for (int u = 0; u < uses; u++)
        param->use[u].root = th_2d(&context, HB_F32, PARTS, EACH, NULL);
    if (flags)
        param->use[0].present = th_1d(&context, HB_I32, PARTS, NULL);
}

static void close_param(struct hb_param *param)
{
    for (int u = 0; u < param->use_count; u++) {
        th_free(&context, &param->use[u].root);
        if (param->use[u].present.data)
            th_free(&context, &param->use[u].present);
    }
}

static void assert_holds(struct hb_tensor t, const float *expected)
{
    float *got = th_host(&context, t);
    assert_memory_equal(got, expected, ELEMENTS * sizeof *got);
    free(got);
}

static void write_leaf(struct hb_param *param, int use, const struct leaves *leaves, int m)
{
    struct hb_leaf leaf;
    TH_OK(hb_leaf_begin(&gradients, param, use, m, leaves->whole[m], &leaf));
    float *out = th_host(&context, leaf.out);
    int32_t *present = leaf.present.data ? th_host(&context, leaf.present) : NULL;
    if (present)
        assert_int_equal(leaf.epilogue, HB_ADD);
    if (!leaves->whole[m] && !present)
        assert_int_equal(leaf.epilogue, HB_STORE);
    for (int i = 0; i < ELEMENTS; i++) {
        if (present && !leaves->present[m][i / EACH])
            continue;
        bool add = present ? present[i / EACH] != 0 : leaf.epilogue == HB_ADD;
        out[i] = add ? out[i] + leaves->value[m][i] : leaves->value[m][i];
    }
    for (int p = 0; present && p < PARTS; p++)
        if (leaves->present[m][p])
            present[p] = 1;
    TH_OK(hb_copy_in(&context, leaf.out, out));
    if (present)
        TH_OK(hb_copy_in(&context, leaf.present, present));
    free(out);
    free(present);
    TH_OK(hb_leaf_end(&gradients, param, use, &leaf));
}

static void fold(struct hb_param *param, bool flags, const struct leaves *leaves, int total, const int *order)
{
    hb_gradients_begin(&gradients, total, &param, 1);
    for (int i = 0; i < total; i++)
        write_leaf(param, 0, leaves, order[i]);
    TH_OK(hb_gradients_close(&gradients, &param, 1));
    assert_int_equal(param->use[0].node_count, 0);
    assert_int_equal(gradients.pool.in_use, 0);
    float *root = th_host(&context, param->use[0].root);
    for (int i = 0; i < ELEMENTS; i++) {
        float want = expected(leaves, total, i, flags);
        if (memcmp(&root[i], &want, sizeof want) != 0)
            fail_msg("%d leaves in order %d %d %d..., flags %d: element %d is %a, must be %a", total,
                     order[0], order[total > 1], order[total > 2 ? 2 : 0], flags, i, (double)root[i],
                     (double)want);
    }
    free(root);
}

/* All orders of `total` leaves, by Heap's algorithm. */
static void all_orders(struct hb_param *param, bool flags, const struct leaves *leaves, int total, int k,
                       int *order)
{
    if (k == 1) {
        fold(param, flags, leaves, total, order);
        return;
    }
    for (int i = 0; i < k; i++) {
        all_orders(param, flags, leaves, total, k - 1, order);
        int other = k % 2 ? 0 : i, kept = order[other];
        order[other] = order[k - 1];
        order[k - 1] = kept;
    }
}

static void random_order(int *order, int total, uint64_t seed)
{
    for (int i = total - 1; i > 0; i--) {
        int32_t *j = th_integers(seed + (uint64_t)i, 1, i + 1);
        int kept = order[i];
        order[i] = order[j[0]];
        order[j[0]] = kept;
        free(j);
    }
}

static void check_orders(bool flags)
{
    struct hb_param param;
    struct leaves leaves;
    open_param(&param, flags, 1);
    for (int total = 1; total <= MOST; total++) {
        int order[MOST] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
        make_leaves(&leaves, 100 * (uint64_t)total);
        if (total <= 6)
            all_orders(&param, flags, &leaves, total, total, order);
        for (uint64_t trial = 0; total > 6 && trial < 200; trial++) {
            make_leaves(&leaves, 1000 * (uint64_t)total + trial);
            fold(&param, flags, &leaves, total, order); /* the first time ascending */
            random_order(order, total, 50 * trial);
        }
    }
    close_param(&param);
}

static void on_backends(void (*check)(void))
{
    const struct hb_backend *backends[2] = {&hb_backend_ref};
    TH_OK(hb_cpu_select(&backends[1]));
    for (int b = 0; b < 2; b++) {
        TH_OK(hb_context_open(backends[b], HB_CANONICAL, 1, &context));
        hb_gradients_init(&gradients, &context);
        check();
        hb_gradients_release(&gradients);
        hb_context_close(&context);
    }
}

static void plain_orders(void)
{
    check_orders(false);
}

static void flagged_orders(void)
{
    check_orders(true);
}

static void test_plain(void **state)
{
    (void)state;
    on_backends(plain_orders);
}

static void test_flagged(void **state)
{
    (void)state;
    on_backends(flagged_orders);
}

/* Leaves of many sources in turn: far apart in the tree, so that each waits for its sibling. */
static void many_waiting(void)
{
    enum { SOURCES = 150, EACH_HAS = 2, ALL = SOURCES * EACH_HAS };
    struct hb_param param;
    struct leaves leaves;
    open_param(&param, false, 1);
    make_leaves(&leaves, 5);
    struct hb_param *params[1] = {&param};
    hb_gradients_begin(&gradients, ALL, params, 1);
    for (int i = 0; i < ALL; i++) {
        struct hb_leaf leaf;
        TH_OK(hb_leaf_begin(&gradients, &param, 0, i % SOURCES * EACH_HAS + i / SOURCES, false, &leaf));
        TH_OK(hb_copy_in(&context, leaf.out, leaves.value[0]));
        TH_OK(hb_leaf_end(&gradients, &param, 0, &leaf));
        if (i == SOURCES - 1)
            assert_int_equal(param.use[0].node_count, SOURCES);
    }
    TH_OK(hb_gradients_close(&gradients, params, 1));
    assert_int_equal(gradients.pool.in_use, 0);
    float value[ALL], *root = th_host(&context, param.use[0].root);
    for (int i = 0; i < ELEMENTS; i++) {
        for (int m = 0; m < ALL; m++)
            value[m] = leaves.value[0][i];
        assert_true(root[i] == hb_tree_sum_f32(value, ALL));
    }
    free(root);
    close_param(&param);
}

static void test_many_waiting(void **state)
{
    (void)state;
    on_backends(many_waiting);
}

/* Does the test see a wrong tree? The leaves' sum must depend on the shape. */
static void test_order_matters(void **state)
{
    (void)state;
    struct leaves leaves;
    int different = 0;
    make_leaves(&leaves, 700);
    for (int i = 0; i < ELEMENTS; i++) {
        float straight = leaves.value[0][i];
        for (int m = 1; m < 7; m++)
            straight += leaves.value[m][i];
        float tree = expected(&leaves, 7, i, false);
        different += memcmp(&straight, &tree, sizeof tree) != 0;
    }
    assert_true(different >= ELEMENTS / 6);
}

/* Nobody saw this expert in the whole step: its gradient is +0. */
static void all_absent(void)
{
    static const int order[] = {2, 0, 1};
    struct hb_param param;
    struct leaves leaves;
    open_param(&param, true, 1);
    make_leaves(&leaves, 4);
    memset(leaves.present, 0, sizeof leaves.present);
    fold(&param, true, &leaves, 3, order);
    fold(&param, true, &leaves, 1, &(int){0});
    static const float zeros[ELEMENTS];
    assert_holds(param.use[0].root, zeros);
    /* Present with -0 in every leaf stays -0: an absent leaf is nothing, not +0. */
    for (int m = 0; m < 3; m++) {
        leaves.present[m][0] = m != 1;
        for (int i = 0; i < EACH; i++)
            leaves.value[m][i] = -0.0f;
    }
    fold(&param, true, &leaves, 3, order);
    float *root = th_host(&context, param.use[0].root);
    assert_true(__builtin_signbit(root[1]));
    free(root);
    close_param(&param);
}

static void test_all_absent(void **state)
{
    (void)state;
    on_backends(all_absent);
}

/* A tied parameter: a fold per use, the roots added in block order. */
static void tied(void)
{
    struct hb_param param, *list = &param;
    struct leaves first, second;
    open_param(&param, true, 2);
    make_leaves(&first, 11);
    make_leaves(&second, 12);
    for (int total = 1; total <= 5; total++) {
        hb_gradients_begin(&gradients, total, &list, 1);
        for (int m = total - 1; m >= 0; m--) {
            write_leaf(&param, 1, &second, m);
            write_leaf(&param, 0, &first, m);
        }
        TH_OK(hb_gradients_close(&gradients, &list, 1));
        float want[ELEMENTS];
        for (int i = 0; i < ELEMENTS; i++)
            want[i] = expected(&first, total, i, true) + expected(&second, total, i, false);
        assert_holds(param.use[0].root, want);
    }
    close_param(&param);
}

static void test_tied(void **state)
{
    (void)state;
    on_backends(tied);
}

/* Sums of other microbatches stay. */
static void drops(void)
{
    struct hb_param param, *list = &param;
    struct leaves leaves;
    struct hb_tensor value, present;
    open_param(&param, false, 1);
    make_leaves(&leaves, 1);
    hb_gradients_begin(&gradients, 8, &list, 1);
    for (int m = 0; m < 6; m += 2)
        write_leaf(&param, 0, &leaves, m);
    hb_gradients_drop(&gradients, &param, 0, 2, 4);
    assert_int_equal(hb_gradients_node(&gradients, &param, 0, 2, 3, &value, &present), HB_EINTERNAL);
    TH_OK(hb_gradients_node(&gradients, &param, 0, 0, 1, &value, &present));
    assert_holds(value, leaves.value[0]);
    TH_OK(hb_gradients_node(&gradients, &param, 0, 4, 5, &value, &present));
    assert_holds(value, leaves.value[4]);
    hb_gradients_drop(&gradients, &param, 0, 0, 8);
    assert_int_equal(param.use[0].node_count, 0);
    assert_int_equal(gradients.pool.in_use, 0);
    close_param(&param);
}

static void test_drops(void **state)
{
    (void)state;
    on_backends(drops);
}

/* A leaf of no microbatch, of a rank that has no rows: ops write fp32, whatever nodes are stored in. */
static void idle(void)
{
    struct hb_param param;
    struct hb_leaf leaf;
    open_param(&param, true, 1);
    param.use[0].root.dtype = HB_BF16;
    TH_OK(hb_leaf_begin(&gradients, &param, 0, -1, true, &leaf));
    assert_int_equal(leaf.out.dtype, HB_F32);
    assert_true(leaf.buffer[0]->asked == ELEMENTS * sizeof(float));
    assert_int_equal(leaf.epilogue, HB_ADD);
    int32_t *present = th_host(&context, leaf.present);
    for (int p = 0; p < PARTS; p++)
        assert_int_equal(present[p], 0);
    free(present);
    TH_OK(hb_leaf_end(&gradients, &param, 0, &leaf));
    assert_int_equal(gradients.pool.in_use, 0);
    param.use[0].root.dtype = HB_F32;
    close_param(&param);
}

static void test_idle(void **state)
{
    (void)state;
    on_backends(idle);
}

static void refusals(void)
{
    struct hb_param param, *list = &param;
    struct leaves leaves;
    struct hb_leaf leaf;
    open_param(&param, false, 1);
    make_leaves(&leaves, 1);
    hb_gradients_begin(&gradients, 5, &list, 1);
    assert_int_equal(hb_leaf_begin(&gradients, &param, 0, 5, true, &leaf), HB_EINTERNAL);
    assert_int_equal(hb_leaf_begin(&gradients, &param, 0, -2, true, &leaf), HB_EINTERNAL);
    for (int m = 0; m < 4; m++)
        write_leaf(&param, 0, &leaves, m);
    assert_int_equal(hb_gradients_close(&gradients, &list, 1), HB_EINTERNAL);
    assert_non_null(strstr(hb_error(), "stack"));
    /* The next step starts from nothing, and loses nothing. */
    write_leaf(&param, 0, &leaves, 4);
    hb_gradients_begin(&gradients, 5, &list, 1);
    assert_int_equal(gradients.pool.in_use, 0);
    assert_int_equal(hb_gradients_close(&gradients, &list, 1), HB_EINTERNAL);
    param.trained = false; /* moved by a rule: no gradient is expected */
    TH_OK(hb_gradients_close(&gradients, &list, 1));
    close_param(&param);
}

static void test_refusals(void **state)
{
    (void)state;
    on_backends(refusals);
}

static void test_names(void **state)
{
    (void)state;
    char text[2 * HB_PARAM_NAME_MAX];
    struct hb_param plain = {.name = "model.norm.weight", .groups = 1};
    struct hb_param stack = {.name = "mlp.experts.", .name_after = ".up_proj.weight", .groups = 12};
    assert_string_equal(hb_param_logical_name(&plain, 0, text, sizeof text), "model.norm.weight");
    assert_string_equal(hb_param_logical_name(&stack, 11, text, sizeof text),
                        "mlp.experts.11.up_proj.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_waiting),
        cmocka_unit_test(test_plain),         cmocka_unit_test(test_flagged),
        cmocka_unit_test(test_order_matters), cmocka_unit_test(test_all_absent),
        cmocka_unit_test(test_tied),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_drops),         cmocka_unit_test(test_idle),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
