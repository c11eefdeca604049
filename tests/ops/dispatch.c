/* dispatch: the plan against a naive sort, bits, gradient, storage types, refusals. */
#include <math.h>

#include "cpu/select.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct dispatch_case {
    int64_t n, K, E, C;
    enum th_kind kind;
};

/* K different experts per token; some experts stay without rows. */
static int32_t *choose(int64_t n, int64_t K, int64_t E)
{
    int32_t *index = malloc((size_t)(n * K + 1) * sizeof *index), *first = th_integers(7, n + 1, (int32_t)E);
    assert_non_null(index);
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < K; j++)
            index[t * K + j] = (int32_t)((first[t] / 2 + j) % E);
    free(first);
    return index;
}

static struct hb_dispatch_plan_args make_plan(struct hb_context *context, int64_t n, int64_t K, int64_t E)
{
    int32_t *index = choose(n, K, E);
    struct hb_dispatch_plan_args plan = {
        .index = th_2d(context, HB_I32, n, K, index),
        .offsets = th_1d(context, HB_I32, E + 1, NULL),
        .row_of = th_2d(context, HB_I32, n, K, NULL),
        .pair_of = th_1d(context, HB_I32, n * K, NULL),
    };
    TH_OK(hb_dispatch_plan(context, &plan));
    free(index);
    return plan;
}

static void release_plan(struct hb_context *context, struct hb_dispatch_plan_args *plan)
{
    th_free(context, &plan->index);
    th_free(context, &plan->offsets);
    th_free(context, &plan->row_of);
    th_free(context, &plan->pair_of);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct dispatch_case *c = data;
    struct hb_dispatch_plan_args plan = make_plan(context, c->n, c->K, c->E);
    float *x = th_numbers(c->kind, 1, c->n * c->C), *drows = th_numbers(c->kind, 2, c->n * c->K * c->C);
    if (c->n * c->C > 3)
        x[3] = drows[2] = NAN;
    struct hb_dispatch_forward_args forward = {
        .x = th_2d(context, th_storage(context, 0), c->n, c->C, x),
        .pair_of = plan.pair_of,
        .rows = th_2d(context, th_storage(context, 1), c->n * c->K, c->C, NULL),
    };
    struct hb_dispatch_backward_args backward = {
        .drows = th_2d(context, th_storage(context, 2), c->n * c->K, c->C, drows),
        .row_of = plan.row_of,
        .dx = th_2d(context, th_storage(context, 3), c->n, c->C, NULL),
    };
    TH_OK(hb_dispatch_forward(context, &forward));
    TH_OK(hb_dispatch_backward(context, &backward));
    th_keep(out, context, "offsets", plan.offsets);
    th_keep(out, context, "row_of", plan.row_of);
    th_keep(out, context, "pair_of", plan.pair_of);
    th_keep(out, context, "rows", forward.rows);
    th_keep(out, context, "dx", backward.dx);
    release_plan(context, &plan);
    th_free(context, &forward.x);
    th_free(context, &forward.rows);
    th_free(context, &backward.drows);
    th_free(context, &backward.dx);
    free(x);
    free(drows);
}

static void test_bits(void **state)
{
    (void)state;
    static const struct dispatch_case cases[] = {
        {0, 2, 4, 8, TH_NORMAL},   {1, 1, 1, 1, TH_NORMAL},    {1, 8, 8, 33, TH_ZEROS},
        {3, 2, 5, 31, TH_NORMAL},  {33, 3, 64, 64, TH_LARGE},  {70, 8, 64, 65, TH_NORMAL},
        {5, 5, 5, 257, TH_NORMAL}, {9, 2, 3, 32, TH_DENORMAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        th_same_bits_everywhere("dispatch", run, &cases[i]);
    th_same_bits_everywhere("dispatch, plan on all threads", run,
                            &(struct dispatch_case){4500, 8, 61, 2, TH_NORMAL});
}

/* By definition: rows are pairs sorted by expert, then by number. */
static void test_plan_against_naive_sort(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {7, 3, 5}, {40, 8, 64}, {6000, 6, 33}};
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    const struct hb_backend *backends[] = {&hb_backend_ref, cpu};
    for (int b = 0; b < 2; b++)
        for (int s = 0; s < 4; s++) {
            int64_t n = sizes[s][0], K = sizes[s][1], E = sizes[s][2];
            struct hb_context context;
            TH_OK(hb_context_open(backends[b], HB_CANONICAL, 3, &context));
            int32_t *index = choose(n, K, E);
            struct hb_dispatch_plan_args plan = make_plan(&context, n, K, E);
            double *offsets = th_doubles(&context, plan.offsets), *row_of = th_doubles(&context, plan.row_of);
            double *pair_of = th_doubles(&context, plan.pair_of);
            int64_t row = 0;
            for (int64_t e = 0; e < E; e++) {
                assert_true(offsets[e] == (double)row);
                for (int64_t pair = 0; pair < n * K; pair++)
                    if (index[pair] == e) {
                        assert_true(pair_of[row] == (double)pair);
                        assert_true(row_of[pair] == (double)row);
                        row++;
                    }
            }
            assert_true(offsets[E] == (double)(n * K));
            free(index);
            free(offsets);
            free(row_of);
            free(pair_of);
            release_plan(&context, &plan);
            hb_context_close(&context);
        }
}

/* loss = sum of g[row][i] rows[row][i] */
struct gradient {
    struct hb_context *context;
    struct hb_dispatch_forward_args forward;
    const double *g;
    double *x;
};

static double loss(void *data)
{
    struct gradient *g = data;
    th_put(g->context, g->forward.x, g->x);
    TH_OK(hb_dispatch_forward(g->context, &g->forward));
    double *rows = th_doubles(g->context, g->forward.rows), sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&g->forward.rows); i++)
        sum += g->g[i] * rows[i];
    free(rows);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    enum { n = 4, K = 3, E = 5, C = 7 };
    struct hb_context context;
    th_open_double(&context);
    struct hb_dispatch_plan_args plan = make_plan(&context, n, K, E);
    float *x = th_numbers(TH_NORMAL, 1, n * C), *drows = th_numbers(TH_NORMAL, 2, n * K * C);
    struct gradient g = {.context = &context};
    g.forward = (struct hb_dispatch_forward_args){
        .x = th_2d(&context, HB_F64, n, C, x),
        .pair_of = plan.pair_of,
        .rows = th_2d(&context, HB_F64, n * K, C, NULL),
    };
    struct hb_dispatch_backward_args backward = {
        .drows = th_2d(&context, HB_F64, n * K, C, drows),
        .row_of = plan.row_of,
        .dx = th_2d(&context, HB_F64, n, C, NULL),
    };
    TH_OK(hb_dispatch_backward(&context, &backward));
    double *dx = th_doubles(&context, backward.dx), *weights = th_doubles(&context, backward.drows);
    g.g = weights;
    g.x = th_doubles(&context, g.forward.x);
    th_check_gradient("dispatch", loss, &g, g.x, dx, n * C);
    free(dx);
    free(weights);
    free(g.x);
    free(x);
    free(drows);
    release_plan(&context, &plan);
    th_free(&context, &g.forward.x);
    th_free(&context, &g.forward.rows);
    th_free(&context, &backward.drows);
    th_free(&context, &backward.dx);
    hb_context_close(&context);
}

/* 16-bit storage on ref: rows are moved without rounding; a sum of three is added in fp32, slots
 * ascending, and rounded once (1 + 2^-8 + 2^-8 is 1.0078125; rounding twice would leave 1). */
static void test_storage(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_dispatch_plan_args plan = make_plan(&context, 1, 3, 3);
    float x[2] = {1.5f, -0.0078125f}, drows[6] = {0};
    double *row_of = th_doubles(&context, plan.row_of);
    drows[2 * (int)row_of[0]] = 1.0f;
    drows[2 * (int)row_of[1]] = drows[2 * (int)row_of[2]] = 0x1p-8f;
    struct hb_dispatch_forward_args forward = {
        .x = th_2d(&context, HB_BF16, 1, 2, x),
        .pair_of = plan.pair_of,
        .rows = th_2d(&context, HB_BF16, 3, 2, NULL),
    };
    struct hb_dispatch_backward_args backward = {
        .drows = th_2d(&context, HB_BF16, 3, 2, drows),
        .row_of = plan.row_of,
        .dx = th_2d(&context, HB_BF16, 1, 2, NULL),
    };
    TH_OK(hb_dispatch_forward(&context, &forward));
    TH_OK(hb_dispatch_backward(&context, &backward));
    double *rows = th_doubles(&context, forward.rows), *dx = th_doubles(&context, backward.dx);
    for (int r = 0; r < 3; r++)
        assert_true(rows[2 * r] == 1.5 && rows[2 * r + 1] == -0.0078125);
    assert_true(dx[0] == 1.0078125 && dx[1] == 0);
    free(row_of);
    free(rows);
    free(dx);
    release_plan(&context, &plan);
    th_free(&context, &forward.x);
    th_free(&context, &forward.rows);
    th_free(&context, &backward.drows);
    th_free(&context, &backward.dx);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    enum { n = 4, K = 2, E = 3, C = 5 };
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_dispatch_plan_args good = make_plan(&context, n, K, E), plan = good;
    plan.row_of = plan.index;
    assert_int_equal(hb_dispatch_plan(&context, &plan), HB_EARGUMENT);
    plan = good;
    plan.pair_of.shape[0] = 7;
    assert_int_equal(hb_dispatch_plan(&context, &plan), HB_ESHAPE);
    plan = good;
    plan.offsets.shape[0] = 1;
    assert_int_equal(hb_dispatch_plan(&context, &plan), HB_ESHAPE);
    plan = good;
    plan.index.shape[0] = plan.row_of.shape[0] = INT64_C(1) << 31;
    assert_int_equal(hb_dispatch_plan(&context, &plan), HB_ESHAPE);

    struct hb_tensor x = th_2d(&context, HB_F32, n, C, NULL), rows = th_2d(&context, HB_F32, n * K, C, NULL);
    struct hb_dispatch_forward_args forward = {.x = x, .pair_of = good.pair_of, .rows = rows};
    forward.rows.shape[1] = C - 1;
    assert_int_equal(hb_dispatch_forward(&context, &forward), HB_ESHAPE);
    forward.rows = rows;
    forward.rows.dtype = HB_I32;
    assert_int_equal(hb_dispatch_forward(&context, &forward), HB_ESHAPE);
    forward.rows = rows;
    forward.x.shape[0] = 3; /* does not divide 8 pairs */
    assert_int_equal(hb_dispatch_forward(&context, &forward), HB_ESHAPE);
    forward.x = x;
    forward.x.home = NULL;
    assert_int_equal(hb_dispatch_forward(&context, &forward), HB_EARGUMENT);

    struct hb_dispatch_backward_args backward = {.drows = rows, .row_of = good.row_of, .dx = x};
    backward.dx.shape[1] = C + 1;
    assert_int_equal(hb_dispatch_backward(&context, &backward), HB_ESHAPE);
    backward.dx = hb_tensor_rows(rows, 0, n);
    assert_int_equal(hb_dispatch_backward(&context, &backward), HB_EARGUMENT);
    backward.dx = x;
    backward.drows.shape[0] = 7;
    assert_int_equal(hb_dispatch_backward(&context, &backward), HB_ESHAPE);
    th_free(&context, &x);
    th_free(&context, &rows);
    release_plan(&context, &good);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),     cmocka_unit_test(test_plan_against_naive_sort),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_storage),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
