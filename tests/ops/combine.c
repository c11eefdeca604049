/* combine: bits, gradients of rows and weights, a bound against double, storage, refusals. */
#include <math.h>

#include "ops/harness.h"
#include "ref/backend.h"

struct combine_case {
    int64_t n, K, C;
    enum th_kind kind;
    bool in_place; /* drows is rows */
};

/* Rows in a scattered order: pair p lies at row (p stride) mod pairs. */
static int32_t *scatter(int64_t pairs)
{
    static const int64_t primes[] = {7919, 104729, 1299709}; /* one of them has no factor in common */
    int32_t *row_of = malloc((size_t)(pairs + 1) * sizeof *row_of);
    assert_non_null(row_of);
    int64_t stride = 1;
    for (int i = 0; i < 3; i++)
        if (pairs % primes[i] != 0)
            stride = primes[i];
    for (int64_t p = 0; p < pairs; p++)
        row_of[p] = (int32_t)(p * stride % pairs);
    return row_of;
}

struct combine {
    struct hb_combine_forward_args forward;
    struct hb_combine_backward_args backward;
};

static const enum hb_dtype MIXED = HB_DTYPE_COUNT; /* as the harness says */

static enum hb_dtype pick(struct hb_context *context, enum hb_dtype storage, int i)
{
    return storage == MIXED ? th_storage(context, i) : storage;
}

static struct combine make(struct hb_context *context, const struct combine_case *c, enum hb_dtype storage)
{
    int64_t pairs = c->n * c->K;
    int32_t *row_of = scatter(pairs);
    float *rows = th_numbers(c->kind, 1, pairs * c->C), *weight = th_numbers(TH_NORMAL, 2, pairs);
    float *dy = th_numbers(c->kind, 3, c->n * c->C);
    struct combine r;
    r.forward.rows = r.backward.rows = th_2d(context, pick(context, storage, 0), pairs, c->C, rows);
    r.forward.row_of = r.backward.row_of = th_2d(context, HB_I32, c->n, c->K, row_of);
    r.forward.weight = r.backward.weight = th_2d(context, th_real(context), c->n, c->K, weight);
    r.forward.y = th_2d(context, pick(context, storage, 1), c->n, c->C, NULL);
    r.backward.dy = th_2d(context, pick(context, storage, 2), c->n, c->C, dy);
    r.backward.drows = c->in_place ? r.backward.rows
                                   : th_2d(context, pick(context, storage, 1), pairs, c->C, NULL);
    r.backward.dweight = th_2d(context, th_real(context), c->n, c->K, NULL);
    free(row_of);
    free(rows);
    free(weight);
    free(dy);
    return r;
}

static void release(struct hb_context *context, struct combine *r)
{
    if (r->backward.drows.data != r->backward.rows.data)
        th_free(context, &r->backward.drows);
    th_free(context, &r->forward.rows);
    th_free(context, &r->forward.row_of);
    th_free(context, &r->forward.weight);
    th_free(context, &r->forward.y);
    th_free(context, &r->backward.dy);
    th_free(context, &r->backward.dweight);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    struct combine r = make(context, data, MIXED);
    TH_OK(hb_combine_forward(context, &r.forward));
    TH_OK(hb_combine_backward(context, &r.backward));
    th_keep(out, context, "y", r.forward.y);
    th_keep(out, context, "drows", r.backward.drows);
    th_keep(out, context, "dweight", r.backward.dweight);
    release(context, &r);
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{0, 2, 8},   {1, 1, 1},    {1, 8, 33},  {3, 2, 31},
                                        {5, 3, 63},  {4, 8, 64},   {4, 2, 65},  {2, 5, 257},
                                        {3, 40, 32}, {70, 2, 256}, {3, 3, 4097}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < TH_KIND_COUNT; kind++)
            th_same_bits_everywhere("combine", run,
                                    &(struct combine_case){shapes[s][0], shapes[s][1], shapes[s][2],
                                                           (enum th_kind)kind, kind % 2});
}

/* drows in the memory of rows gives what it gives elsewhere. */
static void test_in_place(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct combine_case c = {9, 3, 50, TH_NORMAL, false};
    struct th_outputs apart = {0}, same = {0};
    run(&context, &c, &apart);
    c.in_place = true;
    run(&context, &c, &same);
    th_assert_same_bits("combine in place", &apart, &same);
    th_outputs_release(&apart);
    th_outputs_release(&same);
    hb_context_close(&context);
}

/* y: K roundings of a chain, so K u sum |w row|; dweight: 32 lanes of ceil(C / 32) fmas and a tree
 * of 5; drows: one rounding. u = 2^-24. */
static void test_within_bounds(void **state)
{
    (void)state;
    const double u = 0x1p-24;
    struct combine_case c = {7, 6, 200, TH_NORMAL, false};
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct combine r = make(&context, &c, HB_F32);
    TH_OK(hb_combine_forward(&context, &r.forward));
    TH_OK(hb_combine_backward(&context, &r.backward));
    double *rows = th_doubles(&context, r.forward.rows), *row_of = th_doubles(&context, r.forward.row_of);
    double *weight = th_doubles(&context, r.forward.weight), *y = th_doubles(&context, r.forward.y);
    double *dy = th_doubles(&context, r.backward.dy), *drows = th_doubles(&context, r.backward.drows);
    double *dweight = th_doubles(&context, r.backward.dweight);
    for (int64_t t = 0; t < c.n; t++) {
        for (int64_t i = 0; i < c.C; i++) {
            double sum = 0, size = 0;
            for (int64_t j = 0; j < c.K; j++) {
                double term = weight[t * c.K + j] * rows[(int64_t)row_of[t * c.K + j] * c.C + i];
                sum += term;
                size += fabs(term);
            }
            assert_true(fabs(y[t * c.C + i] - sum) <= 1.001 * (double)c.K * u * size);
        }
        for (int64_t j = 0; j < c.K; j++) {
            int64_t row = (int64_t)row_of[t * c.K + j];
            double sum = 0, size = 0;
            for (int64_t i = 0; i < c.C; i++) {
                double term = dy[t * c.C + i] * rows[row * c.C + i], w = weight[t * c.K + j];
                sum += term;
                size += fabs(term);
                assert_true(drows[row * c.C + i] == (double)(float)(w * dy[t * c.C + i]));
            }
            double steps = (double)((c.C + 31) / 32 + 5);
            assert_true(fabs(dweight[t * c.K + j] - sum) <= 1.001 * steps * u * size);
        }
    }
    free(rows);
    free(row_of);
    free(weight);
    free(y);
    free(dy);
    free(drows);
    free(dweight);
    release(&context, &r);
    hb_context_close(&context);
}

/* loss = sum of dy y */
struct gradient {
    struct hb_context *context;
    struct combine r;
    double *rows, *weight, *dy;
};

static double loss(void *data)
{
    struct gradient *g = data;
    th_put(g->context, g->r.forward.rows, g->rows);
    th_put(g->context, g->r.forward.weight, g->weight);
    TH_OK(hb_combine_forward(g->context, &g->r.forward));
    double *y = th_doubles(g->context, g->r.forward.y), sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&g->r.forward.y); i++)
        sum += g->dy[i] * y[i];
    free(y);
    return sum;
}

static void test_gradients(void **state)
{
    (void)state;
    struct combine_case c = {4, 3, 7, TH_NORMAL, false};
    struct hb_context context;
    th_open_double(&context);
    struct gradient g = {.context = &context, .r = make(&context, &c, HB_F64)};
    g.rows = th_doubles(&context, g.r.forward.rows);
    g.weight = th_doubles(&context, g.r.forward.weight);
    g.dy = th_doubles(&context, g.r.backward.dy);
    TH_OK(hb_combine_backward(&context, &g.r.backward));
    double *drows = th_doubles(&context, g.r.backward.drows);
    double *dweight = th_doubles(&context, g.r.backward.dweight);
    th_check_gradient("combine rows", loss, &g, g.rows, drows, c.n * c.K * c.C);
    th_check_gradient("combine weight", loss, &g, g.weight, dweight, c.n * c.K);
    free(drows);
    free(dweight);
    free(g.rows);
    free(g.weight);
    free(g.dy);
    release(&context, &g.r);
    hb_context_close(&context);
}

/* bf16 storage: weights stay fp32 and y is rounded once, at the end. */
static void test_storage(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct combine_case c = {5, 4, 40, TH_NORMAL, false};
    struct combine r = make(&context, &c, HB_BF16);
    TH_OK(hb_combine_forward(&context, &r.forward));
    TH_OK(hb_combine_backward(&context, &r.backward));
    double *rows = th_doubles(&context, r.forward.rows), *row_of = th_doubles(&context, r.forward.row_of);
    double *weight = th_doubles(&context, r.forward.weight), *y = th_doubles(&context, r.forward.y);
    double *dy = th_doubles(&context, r.backward.dy), *drows = th_doubles(&context, r.backward.drows);
    for (int64_t i = 0; i < c.n * c.C; i++) {
        int64_t t = i / c.C;
        float sum = 0;
        for (int64_t j = 0; j < c.K; j++) {
            int64_t at = (int64_t)row_of[t * c.K + j] * c.C + i % c.C;
            sum = fmaf((float)weight[t * c.K + j], (float)rows[at], sum);
            float d = (float)weight[t * c.K + j] * (float)dy[i];
            assert_true((float)drows[at] == hb_f32_of_bf16(hb_bf16_of_f32(d)));
        }
        assert_true((float)y[i] == hb_f32_of_bf16(hb_bf16_of_f32(sum)));
    }
    free(rows);
    free(row_of);
    free(weight);
    free(y);
    free(dy);
    free(drows);
    release(&context, &r);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct combine_case c = {4, 2, 6, TH_NORMAL, false};
    struct combine r = make(&context, &c, HB_F32);
    struct hb_combine_forward_args f = r.forward;
    f.rows.shape[0] = 7;
    assert_int_equal(hb_combine_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.weight.dtype = HB_BF16;
    assert_int_equal(hb_combine_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.y.shape[1] = 5;
    assert_int_equal(hb_combine_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.row_of.home = NULL;
    assert_int_equal(hb_combine_forward(&context, &f), HB_EARGUMENT);
    f = r.forward;
    f.y = hb_tensor_rows(f.rows, 0, 4);
    assert_int_equal(hb_combine_forward(&context, &f), HB_EARGUMENT);

    struct hb_combine_backward_args b = r.backward;
    b.dy.shape[0] = 3;
    assert_int_equal(hb_combine_backward(&context, &b), HB_ESHAPE);
    b = r.backward;
    b.drows.shape[1] = 5;
    assert_int_equal(hb_combine_backward(&context, &b), HB_ESHAPE);
    b = r.backward;
    b.dweight.shape[1] = 1;
    assert_int_equal(hb_combine_backward(&context, &b), HB_ESHAPE);
    b = r.backward;
    b.dy = hb_tensor_rows(b.drows, 1, 4);
    assert_int_equal(hb_combine_backward(&context, &b), HB_EARGUMENT);
    b = r.backward;
    b.dweight = b.weight;
    assert_int_equal(hb_combine_backward(&context, &b), HB_EARGUMENT);
    release(&context, &r);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),          cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_within_bounds), cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_storage),       cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
