/* sum: bits, the order written out a second time, a bound against long double, refusals. */
#include <math.h>

#include "core/tree.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct sum_case {
    int64_t groups, each;
    bool squares;
    float factor;
    enum th_kind kind;
    float poison; /* put in the middle unless 0 */
};

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sum_case *c = data;
    float *x = th_numbers(c->kind, 1, c->groups * c->each);
    if (c->poison != 0)
        x[c->groups * c->each / 2] = c->poison;
    struct hb_sum_args args = {
        .x = th_2d(context, th_storage(context, 0), c->groups, c->each, x),
        .squares = c->squares,
        .factor = c->factor,
        .out = th_1d(context, HB_F64, c->groups, NULL),
    };
    TH_OK(hb_sum(context, &args));
    th_keep(out, context, "out", args.out);
    th_free(context, &args.x);
    th_free(context, &args.out);
    free(x);
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 0},    {1, 1},    {3, 31},   {2, 32},    {1, 33},     {5, 4095},
                                        {1, 4096}, {3, 4097}, {2, 8191}, {9, 12289}, {1, 1000003}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int squares = 0; squares < 2; squares++)
            th_same_bits_everywhere(
                "sum", run,
                &(struct sum_case){shapes[s][0], shapes[s][1], squares, s % 2 ? 1 : 0x1p-9f, TH_NORMAL, 0});
    for (int kind = 0; kind < TH_KIND_COUNT; kind++)
        th_same_bits_everywhere("sum of a kind", run,
                                &(struct sum_case){2, 5001, kind % 2, 0.3f, (enum th_kind)kind, 0});
    th_same_bits_everywhere("sum with NaN", run, &(struct sum_case){1, 9000, true, 1, TH_NORMAL, NAN});
    th_same_bits_everywhere("sum with infinity", run,
                            &(struct sum_case){1, 9000, false, 1, TH_NORMAL, -INFINITY});
}

/* Rule 21 by recursion: half-trees of lanes, the tree of chunks by its splits. */
static double lanes(const double *lane, int64_t begin, int64_t count)
{
    return count == 1 ? lane[begin]
                      : lanes(lane, begin, count / 2) + lanes(lane, begin + count / 2, count / 2);
}

/* Position of lane l in the order in which neighbours meet: the tree 16, 8, 4, 2, 1 adds l and l + 16 first.
 */
static int64_t bit_reversed(int64_t l)
{
    int64_t r = 0;
    for (int b = 0; b < 5; b++)
        r |= ((l >> b) & 1) << (4 - b);
    return r;
}

static double chunks(const float *x, int64_t n, struct hb_node node)
{
    if (node.end - node.begin > 1) {
        int64_t split = hb_tree_split(node);
        double left = chunks(x, n, (struct hb_node){node.begin, split});
        return left + chunks(x, n, (struct hb_node){split, node.end});
    }
    double lane[32] = {0}, reversed[32];
    for (int64_t l = 0; l < 32; l++) {
        for (int64_t i = 4096 * node.begin + l; i < n && i < 4096 * node.end; i += 32)
            lane[l] = fma((double)x[i], (double)x[i], lane[l]);
        reversed[bit_reversed(l)] = lane[l];
    }
    return lanes(reversed, 0, 32);
}

static double sum_on_ref(const float *x, int64_t n, bool squares, float factor)
{
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_sum_args args = {
        .x = th_1d(&context, HB_F32, n, x),
        .squares = squares,
        .factor = factor,
        .out = th_1d(&context, HB_F64, 1, NULL),
    };
    TH_OK(hb_sum(&context, &args));
    double *out = th_doubles(&context, args.out), result = *out;
    free(out);
    th_free(&context, &args.x);
    th_free(&context, &args.out);
    hb_context_close(&context);
    return result;
}

static void test_order(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 40, 4096, 4100, 20481, 7 * 4096};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        float *x = th_numbers(TH_NORMAL, (uint64_t)n, n);
        double expected = chunks(x, n, (struct hb_node){0, (n + 4095) / 4096});
        assert_true(sum_on_ref(x, n, true, 1) == expected);
        free(x);
    }
}

/* A term passes through at most 128 additions in its lane, 5 in the tree of lanes and
 * ceil(log2(chunks)) in that of chunks, each 2^-53 relative. */
static void test_within_bound(void **state)
{
    (void)state;
    enum { n = 300007 };
    double steps = 128 + 5 + 7, worst = 0;
    for (int squares = 0; squares < 2; squares++)
        for (int kind = TH_NORMAL; kind <= TH_SAME_SIGN; kind++) {
            float *x = th_numbers((enum th_kind)kind, 5, n), factor = 0.1f;
            long double sum = 0, size = 0;
            for (int64_t i = 0; i < n; i++) {
                long double v = x[i] * factor, term = squares ? v * v : v;
                sum += term;
                size += fabsl(term);
            }
            double error = fabs((double)((long double)sum_on_ref(x, n, squares, factor) - sum));
            double bound = 1.01 * steps * 0x1p-53 * (double)size;
            if (!(error <= bound))
                fail_msg("error %g, bound %g", error, bound);
            worst = fmax(worst, error / bound);
            free(x);
        }
    assert_true(worst > 1e-5);
}

static void test_exact_values(void **state)
{
    (void)state;
    float x[5000];
    for (int i = 0; i < 5000; i++)
        x[i] = (float)(i + 1);
    assert_true(sum_on_ref(x, 5000, false, 1) == 12502500.0);
    assert_true(sum_on_ref(x, 5000, true, 0.5f) == 41679167500.0 / 4);
    assert_true(sum_on_ref(x, 0, true, 1) == 0);
    x[17] = 3e38f; /* its square is beyond fp32, not beyond the sum */
    assert_true(isfinite(sum_on_ref(x, 5000, true, 1)));
    x[17] = INFINITY;
    assert_true(isinf(sum_on_ref(x, 5000, true, 1)));
    x[18] = NAN;
    assert_true(isnan(sum_on_ref(x, 5000, true, 1)));
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_sum_args good = {
        .x = th_1d(&context, HB_F32, 12, NULL),
        .factor = 1,
        .out = th_1d(&context, HB_F64, 4, NULL),
    };
    struct hb_sum_args args = good;
    args.x.shape[0] = 10;
    assert_int_equal(hb_sum(&context, &args), HB_ESHAPE);
    args = good;
    args.out.shape[0] = 0;
    assert_int_equal(hb_sum(&context, &args), HB_ESHAPE);
    args = good;
    args.out.dtype = HB_F32;
    assert_int_equal(hb_sum(&context, &args), HB_ESHAPE);
    args = good;
    args.x.dtype = HB_I32;
    assert_int_equal(hb_sum(&context, &args), HB_ESHAPE);
    args = good;
    args.x.home = NULL;
    assert_int_equal(hb_sum(&context, &args), HB_EARGUMENT);
    th_free(&context, &good.x);
    th_free(&context, &good.out);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),         cmocka_unit_test(test_order),
        cmocka_unit_test(test_within_bound), cmocka_unit_test(test_exact_values),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
