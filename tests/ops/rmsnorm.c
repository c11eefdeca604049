/* rmsnorm: bits of every backend, gradients, an independent computation in
 * double with derived bounds, refused calls, rows alone and in company. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

struct sample {
    int64_t n, D;
    float *x, *weight, *dy, *dweight;
    float eps;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n, int64_t D)
{
    return (struct sample){.n = n,
                           .D = D,
                           .x = th_numbers(kind, seed, n * D),
                           .weight = th_numbers(TH_NORMAL, seed + 1, D),
                           .dy = th_numbers(kind, seed + 2, n * D),
                           .dweight = th_numbers(TH_NORMAL, seed + 3, D),
                           .eps = 1e-6f};
}

static void release(struct sample *s)
{
    free(s->x);
    free(s->weight);
    free(s->dy);
    free(s->dweight);
}

/* All three entries; `out` gets y, rstd, dx, dweight stored and dweight added. */
static const enum hb_dtype MIXED = HB_DTYPE_COUNT; /* as the harness says */

static enum hb_dtype pick(struct hb_context *context, enum hb_dtype dtype, int i)
{
    return dtype == MIXED ? th_storage(context, i) : dtype;
}

static void run_dtype(struct hb_context *context, enum hb_dtype dtype, const struct sample *s,
                      struct th_outputs *out)
{
    enum hb_dtype real = th_real(context);
    struct hb_tensor x = th_2d(context, pick(context, dtype, 0), s->n, s->D, s->x);
    struct hb_tensor weight = th_1d(context, pick(context, dtype, 1), s->D, s->weight);
    struct hb_tensor dy = th_2d(context, pick(context, dtype, 2), s->n, s->D, s->dy);
    struct hb_tensor y = th_2d(context, pick(context, dtype, 3), s->n, s->D, NULL);
    struct hb_tensor dx = th_2d(context, pick(context, dtype, 4), s->n, s->D, NULL);
    struct hb_tensor rstd = th_1d(context, real, s->n, NULL);
    struct hb_tensor stored = th_1d(context, real, s->D, NULL);
    struct hb_tensor added = th_1d(context, real, s->D, s->dweight);
    TH_OK(hb_rmsnorm_forward(context, &(struct hb_rmsnorm_forward_args){
                                          .x = x, .weight = weight, .y = y, .rstd = rstd, .eps = s->eps}));
    TH_OK(
        hb_rmsnorm_backward_input(context, &(struct hb_rmsnorm_backward_input_args){
                                               .x = x, .weight = weight, .rstd = rstd, .dy = dy, .dx = dx}));
    struct hb_rmsnorm_backward_weight_args w = {
        .x = x, .rstd = rstd, .dy = dy, .dweight = stored, .epilogue = HB_STORE};
    TH_OK(hb_rmsnorm_backward_weight(context, &w));
    w.dweight = added;
    w.epilogue = HB_ADD;
    TH_OK(hb_rmsnorm_backward_weight(context, &w));
    th_keep(out, context, "y", y);
    th_keep(out, context, "rstd", rstd);
    th_keep(out, context, "dx", dx);
    th_keep(out, context, "dweight", stored);
    th_keep(out, context, "dweight added", added);
    struct hb_tensor *all[] = {&x, &weight, &dy, &y, &dx, &rstd, &stored, &added};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    run_dtype(context, MIXED, data, out);
}

/* y over x, dx over dy. */
static void run_in_place(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    struct hb_tensor x = th_2d(context, th_storage(context, 0), s->n, s->D, s->x);
    struct hb_tensor y = th_2d(context, th_storage(context, 1), s->n, s->D, s->x);
    struct hb_tensor weight = th_1d(context, th_storage(context, 2), s->D, s->weight);
    struct hb_tensor dy = th_2d(context, th_storage(context, 2), s->n, s->D, s->dy);
    struct hb_tensor rstd = th_1d(context, HB_F32, s->n, NULL);
    TH_OK(hb_rmsnorm_forward(context, &(struct hb_rmsnorm_forward_args){
                                          .x = y, .weight = weight, .y = y, .rstd = rstd, .eps = s->eps}));
    TH_OK(
        hb_rmsnorm_backward_input(context, &(struct hb_rmsnorm_backward_input_args){
                                               .x = x, .weight = weight, .rstd = rstd, .dy = dy, .dx = dy}));
    th_keep(out, context, "y", y);
    th_keep(out, context, "rstd", rstd);
    th_keep(out, context, "dx", dy);
    struct hb_tensor *all[] = {&x, &y, &weight, &dy, &rstd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{0, 8},     {1, 1},    {3, 31},   {65, 32},  {2, 33},
                                        {7, 63},    {640, 64}, {63, 65},  {5, 255},  {130, 257},
                                        {193, 384}, {9, 4095}, {64, 513}, {17, 4097}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && i % 4 != 2)
                continue;
            struct sample s = make(kind, 100 * i + (uint64_t)kind, shapes[i][0], shapes[i][1]);
            char label[96];
            snprintf(label, sizeof label, "rmsnorm [%d,%d] %s", (int)s.n, (int)s.D, th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            release(&s);
        }
}

static void test_same_bits_with_nan(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 5, 520, 65);
    s.x[3] = NAN;
    s.x[65 * 2 + 64] = INFINITY;
    s.dy[65 * 4 + 1] = NAN;
    s.dy[65 * 300] = -INFINITY;
    s.weight[7] = NAN;
    th_same_bits_everywhere("rmsnorm with NaN", run, &s);
    release(&s);
}

static void test_in_place(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 6, 140, 257);
    th_same_bits_everywhere("rmsnorm in place", run_in_place, &s);
    struct hb_context context;
    struct th_outputs apart = {0}, over = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &s, &apart);
    run_in_place(&context, &s, &over);
    hb_context_close(&context);
    struct th_outputs first_three = apart;
    first_three.count = 3;
    th_assert_same_bits("in place against apart", &first_three, &over);
    th_outputs_release(&apart);
    th_outputs_release(&over);
    release(&s);
}

/* Central differences on ref64 of sum(g y). */
struct gradient {
    struct hb_context *context;
    int64_t n, D;
    double *x, *weight, *g;
};

static double loss(void *data)
{
    struct gradient *c = data;
    struct hb_tensor x = th_2d(c->context, HB_F64, c->n, c->D, NULL);
    struct hb_tensor y = th_2d(c->context, HB_F64, c->n, c->D, NULL);
    struct hb_tensor weight = th_1d(c->context, HB_F64, c->D, NULL);
    struct hb_tensor rstd = th_1d(c->context, HB_F64, c->n, NULL);
    th_put(c->context, x, c->x);
    th_put(c->context, weight, c->weight);
    TH_OK(hb_rmsnorm_forward(c->context, &(struct hb_rmsnorm_forward_args){
                                             .x = x, .weight = weight, .y = y, .rstd = rstd, .eps = 1e-6f}));
    double sum = 0;
    for (int64_t i = 0; i < c->n * c->D; i++)
        sum += c->g[i] * ((double *)y.data)[i];
    th_free(c->context, &x);
    th_free(c->context, &y);
    th_free(c->context, &weight);
    th_free(c->context, &rstd);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_NORMAL, 8, 67, 5);
    struct th_outputs out = {0};
    run(&context, &s, &out);
    struct hb_tensor x = th_2d(&context, HB_F64, s.n, s.D, s.x),
                     weight = th_1d(&context, HB_F64, s.D, s.weight);
    struct hb_tensor dy = th_2d(&context, HB_F64, s.n, s.D, s.dy);
    struct gradient c = {
        &context, s.n, s.D, th_doubles(&context, x), th_doubles(&context, weight), th_doubles(&context, dy)};
    th_check_gradient("rmsnorm dx", loss, &c, c.x, out.item[2].data, s.n * s.D);
    th_check_gradient("rmsnorm dweight", loss, &c, c.weight, out.item[3].data, s.D);
    th_free(&context, &x);
    th_free(&context, &weight);
    th_free(&context, &dy);
    free(c.x);
    free(c.weight);
    free(c.g);
    th_outputs_release(&out);
    release(&s);
    hb_context_close(&context);
}

/* The formulas in double, written out, against ref; bounds of docs/ops/rmsnorm.md.
 * A lane sums D / 32 terms and the tree adds 5 levels: `depth` roundings. */
static void check_against_double(const struct sample *s)
{
    struct hb_context context;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, s, &out);
    hb_context_close(&context);
    const float *y = out.item[0].data, *dx = out.item[2].data, *dw = out.item[3].data;
    int64_t n = s->n, D = s->D;
    double depth = ceil((double)D / 32) + 6, sharp = 4 * sqrt(depth) < depth ? 4 * sqrt(depth) : depth;
    double *r = calloc((size_t)n + 1, sizeof *r);
    assert_non_null(r);
    for (int64_t t = 0; t < n; t++) {
        const float *x = s->x + t * D, *dy = s->dy + t * D;
        double squares = 0, dot = 0, terms = 0;
        for (int64_t i = 0; i < D; i++) {
            squares += (double)x[i] * (double)x[i];
            dot += (double)dy[i] * (double)s->weight[i] * (double)x[i];
            terms += fabs((double)dy[i] * (double)s->weight[i] * (double)x[i]);
        }
        r[t] = 1 / sqrt(squares / (double)D + (double)s->eps);
        double r_error = (sharp / 2 + 4) * U; /* relative; the root halves the sum's */
        for (int64_t i = 0; i < D; i++) {
            double w = (double)s->weight[i], expected = (double)x[i] * r[t] * w;
            assert_true(fabs((double)y[t * D + i] - expected) <=
                        (r_error + 2 * U) * fabs(expected) + DBL_MIN);
            double c = r[t] * r[t] * dot / (double)D,
                   c_error = r[t] * r[t] * terms / (double)D * ((sharp + 4) * U + 2 * r_error);
            expected = r[t] * ((double)dy[i] * w - (double)x[i] * c);
            double bound = r[t] * (fabs((double)x[i]) * c_error + 2 * U * fabs((double)dy[i] * w) +
                                   2 * U * fabs((double)x[i] * c)) +
                           2 * r_error * fabs(expected);
            assert_true(fabs((double)dx[t * D + i] - expected) <= bound + 1e-40);
        }
    }
    double rows_depth = 64 + ceil(log2((double)n + 1)) + 2 + sharp / 2 + 4;
    for (int64_t i = 0; i < D; i++) {
        double sum = 0, terms = 0;
        for (int64_t t = 0; t < n; t++) {
            double term = (double)s->dy[t * D + i] * (double)s->x[t * D + i] * r[t];
            sum += term;
            terms += fabs(term);
        }
        assert_true(fabs((double)dw[i] - sum) <= rows_depth * U * terms + 1e-40);
    }
    free(r);
    th_outputs_release(&out);
}

static void test_against_double(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {200, 64}, {70, 384}, {3, 4097}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 2; k++) {
            struct sample s = make(k ? TH_SAME_SIGN : TH_NORMAL, 40 + i, shapes[i][0], shapes[i][1]);
            check_against_double(&s);
            release(&s);
        }
}

/* Storage rounds once: bf16 results are the fp32 results of the same (bf16) inputs, rounded. */
static void test_bf16_rounds_once(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 9, 66, 96);
    for (int64_t i = 0; i < s.n * s.D; i++) {
        s.x[i] = hb_f32_of_bf16(hb_bf16_of_f32(s.x[i]));
        s.dy[i] = hb_f32_of_bf16(hb_bf16_of_f32(s.dy[i]));
    }
    for (int64_t i = 0; i < s.D; i++)
        s.weight[i] = hb_f32_of_bf16(hb_bf16_of_f32(s.weight[i]));
    struct hb_context context;
    struct th_outputs wide = {0}, narrow = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &s, &wide);
    run_dtype(&context, HB_BF16, &s, &narrow);
    hb_context_close(&context);
    for (int o = 0; o <= 2; o += 2)
        for (int64_t i = 0; i < s.n * s.D; i++)
            assert_int_equal(((uint16_t *)narrow.item[o].data)[i],
                             hb_bf16_of_f32(((float *)wide.item[o].data)[i]));
    assert_memory_equal(narrow.item[1].data, wide.item[1].data, (size_t)s.n * sizeof(float));
    assert_memory_equal(narrow.item[3].data, wide.item[3].data, (size_t)s.D * sizeof(float));
    th_outputs_release(&wide);
    th_outputs_release(&narrow);
    release(&s);
}

static void test_rows_alone(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 10, 130, 300), one = s;
    struct hb_context context;
    struct th_outputs all = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &s, &all);
    one.n = 1;
    for (int64_t t = 0; t < s.n; t += 43) {
        struct th_outputs alone = {0};
        one.x = s.x + t * s.D;
        one.dy = s.dy + t * s.D;
        run(&context, &one, &alone);
        for (int o = 0; o <= 2; o += 2)
            assert_memory_equal(alone.item[o].data, (float *)all.item[o].data + t * s.D,
                                (size_t)s.D * sizeof(float));
        th_outputs_release(&alone);
    }
    hb_context_close(&context);
    th_outputs_release(&all);
    release(&s);
}

/* 64 rows are one chunk, 65 are two: a chunk without rows would turn a sum of -0 into +0. */
static void test_negative_zero(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    float x[65], r[65], dy[65];
    for (int i = 0; i < 65; i++) {
        x[i] = 1;
        r[i] = 1e-30f;
        dy[i] = -1e-30f;
    }
    for (int64_t n = 63; n <= 65; n++) {
        struct hb_tensor dw = th_1d(&context, HB_F32, 1, NULL);
        struct hb_rmsnorm_backward_weight_args args = {.x = th_2d(&context, HB_F32, n, 1, x),
                                                       .rstd = th_1d(&context, HB_F32, n, r),
                                                       .dy = th_2d(&context, HB_F32, n, 1, dy),
                                                       .dweight = dw};
        TH_OK(hb_rmsnorm_backward_weight(&context, &args));
        float *sum = th_host(&context, dw);
        assert_int_equal(hb_bits_of_f32(*sum), 0x80000000u);
        free(sum);
        th_free(&context, &args.x);
        th_free(&context, &args.rstd);
        th_free(&context, &args.dy);
        th_free(&context, &dw);
    }
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct hb_tensor x = th_2d(&context, HB_F32, 2, 4, NULL), y = th_2d(&context, HB_F32, 2, 4, NULL);
    struct hb_tensor weight = th_1d(&context, HB_F32, 4, NULL), rstd = th_1d(&context, HB_F32, 2, NULL);
    struct hb_rmsnorm_forward_args good = {.x = x, .weight = weight, .y = y, .rstd = rstd, .eps = 1e-6f},
                                   a = good;
    TH_OK(hb_rmsnorm_forward(&context, &good));
    a.weight.shape[0] = 3;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.y.shape[0] = 1;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.rstd.dtype = HB_BF16;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.x.rank = 1;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.x.home = &other;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_EARGUMENT);
    a = good;
    a.eps = -1;
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_EARGUMENT);
    a = good;
    a.x = hb_tensor_rows(x, 0, 1);
    a.y = a.x;
    a.y.data = (float *)a.x.data + 2;
    a.rstd = hb_tensor_rows(rstd, 0, 1);
    assert_int_equal(hb_rmsnorm_forward(&context, &a), HB_EARGUMENT);
    struct hb_rmsnorm_backward_input_args b = {.x = x, .weight = weight, .rstd = rstd, .dy = y, .dx = y};
    b.dx.shape[1] = 5;
    assert_int_equal(hb_rmsnorm_backward_input(&context, &b), HB_ESHAPE);
    b.dx = x;
    assert_int_equal(hb_rmsnorm_backward_input(&context, &b), HB_EARGUMENT);
    struct hb_rmsnorm_backward_weight_args w = {
        .x = x, .rstd = rstd, .dy = y, .dweight = weight, .epilogue = HB_CONTINUE};
    assert_int_equal(hb_rmsnorm_backward_weight(&context, &w), HB_EARGUMENT);
    w.epilogue = HB_STORE;
    w.dweight.shape[0] = 5;
    assert_int_equal(hb_rmsnorm_backward_weight(&context, &w), HB_ESHAPE);
    th_free(&context, &x);
    th_free(&context, &y);
    th_free(&context, &weight);
    th_free(&context, &rstd);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),      cmocka_unit_test(test_same_bits_with_nan),
        cmocka_unit_test(test_in_place),       cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_bf16_rounds_once),
        cmocka_unit_test(test_rows_alone),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_negative_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
