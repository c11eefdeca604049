/* fold: bits, flags, a whole tree against core/tree.h, refusals. */
#include <math.h>

#include "core/tree.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct fold_case {
    int64_t parts, each;
    bool flags;
    enum th_kind kind;
};

/* Merges two nodes whose flags take all four combinations, then closes. */
static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct fold_case *c = data;
    float *a = th_numbers(c->kind, 1, c->parts * c->each), *b = th_numbers(c->kind, 2, c->parts * c->each);
    int32_t *p = th_integers(3, c->parts, 2), *q = th_integers(4, c->parts, 2);
    struct hb_fold_merge_args merge = {
        .left = th_3d(context, th_storage(context, 0), c->parts, 1, c->each, a),
        .right = th_3d(context, th_storage(context, 0), c->parts, 1, c->each, b),
    };
    if (c->flags) {
        merge.left_present = th_1d(context, HB_I32, c->parts, p);
        merge.right_present = th_1d(context, HB_I32, c->parts, q);
    }
    TH_OK(hb_fold_merge(context, &merge));
    th_keep(out, context, "merged", merge.left);
    if (c->flags)
        th_keep(out, context, "flags", merge.left_present);
    struct hb_fold_close_args close = {.root = merge.left, .present = merge.left_present};
    TH_OK(hb_fold_close(context, &close));
    th_keep(out, context, "closed", close.root);
    if (c->flags)
        th_keep(out, context, "closed flags", close.present);
    th_free(context, &merge.left);
    th_free(context, &merge.right);
    th_free(context, &merge.left_present);
    th_free(context, &merge.right_present);
    free(a);
    free(b);
    free(p);
    free(q);
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {1, 33},    {3, 31},     {7, 64},    {300, 5},
                                        {5, 0}, {2, 40001}, {1, 100003}, {9000, 13}, {4, 4097}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flags = 0; flags < 2; flags++)
            th_same_bits_everywhere(
                "fold", run,
                &(struct fold_case){shapes[s][0], shapes[s][1], flags, s % 3 == 1 ? TH_DENORMAL : TH_NORMAL});
    th_same_bits_everywhere("fold", run, &(struct fold_case){8, 100, true, TH_ZEROS});
}

/* Every combination of flags; -0 must survive a copy, since x + 0 would turn it into +0. */
static void test_flags(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    float left[8] = {1, 2, NAN, NAN, 5, 6, NAN, NAN}, right[8] = {10, 20, 30, -0.0f, NAN, NAN, NAN, NAN};
    int32_t left_present[4] = {1, 0, 1, 0}, right_present[4] = {1, 1, 0, 0};
    struct hb_fold_merge_args merge = {
        .left = th_2d(&context, HB_F32, 4, 2, left),
        .right = th_2d(&context, HB_F32, 4, 2, right),
        .left_present = th_1d(&context, HB_I32, 4, left_present),
        .right_present = th_1d(&context, HB_I32, 4, right_present),
    };
    TH_OK(hb_fold_merge(&context, &merge));
    double *merged = th_doubles(&context, merge.left), *flags = th_doubles(&context, merge.left_present);
    assert_true(merged[0] == 11 && merged[1] == 22);                      /* both */
    assert_true(merged[2] == 30 && merged[3] == 0 && signbit(merged[3])); /* right only: a copy */
    assert_true(merged[4] == 5 && merged[5] == 6);                        /* left only */
    assert_true(flags[0] == 1 && flags[1] == 1 && flags[2] == 1 && flags[3] == 0);
    free(merged);
    free(flags);
    struct hb_fold_close_args close = {.root = merge.left, .present = merge.left_present};
    TH_OK(hb_fold_close(&context, &close));
    merged = th_doubles(&context, merge.left);
    flags = th_doubles(&context, merge.left_present);
    assert_true(merged[6] == 0 && !signbit(merged[6]) && merged[7] == 0 && flags[3] == 1 && merged[0] == 11);
    free(merged);
    free(flags);
    th_free(&context, &merge.left);
    th_free(&context, &merge.right);
    th_free(&context, &merge.left_present);
    th_free(&context, &merge.right_present);
    hb_context_close(&context);
}

static void merge_range(struct hb_context *context, struct hb_tensor *leaf, struct hb_node node)
{
    if (node.end - node.begin < 2)
        return;
    int64_t split = hb_tree_split(node);
    merge_range(context, leaf, (struct hb_node){node.begin, split});
    merge_range(context, leaf, (struct hb_node){split, node.end});
    TH_OK(
        hb_fold_merge(context, &(struct hb_fold_merge_args){.left = leaf[node.begin], .right = leaf[split]}));
}

/* Merging all leaves of a tree gives the tree sum of every element. */
static void test_whole_tree(void **state)
{
    (void)state;
    enum { LEAVES = 11, C = 37 };
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_tensor leaf[LEAVES];
    float *numbers[LEAVES], column[LEAVES], root[C];
    for (int l = 0; l < LEAVES; l++) {
        numbers[l] = th_numbers(TH_NORMAL, (uint64_t)l, C);
        leaf[l] = th_1d(&context, HB_F32, C, numbers[l]);
    }
    merge_range(&context, leaf, (struct hb_node){0, LEAVES});
    TH_OK(hb_copy_out(&context, root, leaf[0]));
    for (int i = 0; i < C; i++) {
        for (int l = 0; l < LEAVES; l++)
            column[l] = numbers[l][i];
        assert_true(root[i] == hb_tree_sum_f32(column, LEAVES));
    }
    for (int l = 0; l < LEAVES; l++) {
        free(numbers[l]);
        th_free(&context, &leaf[l]);
    }
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_fold_merge_args good = {
        .left = th_2d(&context, HB_F32, 4, 3, NULL),
        .right = th_2d(&context, HB_F32, 4, 3, NULL),
        .left_present = th_1d(&context, HB_I32, 4, NULL),
        .right_present = th_1d(&context, HB_I32, 4, NULL),
    };
    struct hb_fold_merge_args args = good;
    args.right.shape[0] = 3;
    assert_int_equal(hb_fold_merge(&context, &args), HB_ESHAPE);
    args = good;
    args.right = args.left;
    assert_int_equal(hb_fold_merge(&context, &args), HB_EARGUMENT);
    args = good;
    args.left_present.data = NULL;
    assert_int_equal(hb_fold_merge(&context, &args), HB_EARGUMENT);
    args = good;
    args.right_present.shape[0] = 5;
    assert_int_equal(hb_fold_merge(&context, &args), HB_ESHAPE);
    args = good;
    args.left.dtype = HB_BF16;
    assert_int_equal(hb_fold_merge(&context, &args), HB_ESHAPE);
    args = good;
    args.left.home = NULL;
    assert_int_equal(hb_fold_merge(&context, &args), HB_EARGUMENT);
    struct hb_fold_close_args close = {.root = good.left, .present = good.left_present};
    close.present.shape[0] = 3;
    assert_int_equal(hb_fold_close(&context, &close), HB_ESHAPE);
    th_free(&context, &good.left);
    th_free(&context, &good.right);
    th_free(&context, &good.left_present);
    th_free(&context, &good.right_present);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_whole_tree),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
