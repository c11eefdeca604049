/* swiglu: bits of every backend, gradient, the formula in double with derived
 * bounds, aliasing, refused calls, elements alone and in company. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

struct sample {
    int64_t n;
    float *gate, *up, *dout;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n)
{
    struct sample s = {n, th_numbers(kind, seed, n), th_numbers(kind, seed + 1, n),
                       th_numbers(kind, seed + 2, n)};
    if (kind == TH_NORMAL)
        for (int64_t i = 0; i < n; i++) /* into the tails of the sigmoid too */
            s.gate[i] *= (float)(i % 60);
    return s;
}

static void release(struct sample *s)
{
    free(s->gate);
    free(s->up);
    free(s->dout);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype type[] = {th_storage(context, 0), th_storage(context, 1), th_storage(context, 2)};
    struct hb_tensor gate = th_1d(context, type[0], s->n, s->gate), up = th_1d(context, type[1], s->n, s->up);
    struct hb_tensor dout = th_1d(context, type[2], s->n, s->dout), y = th_1d(context, type[2], s->n, NULL);
    struct hb_tensor dgate = th_1d(context, type[1], s->n, NULL), dup = th_1d(context, type[0], s->n, NULL);
    TH_OK(hb_swiglu_forward(context, &(struct hb_swiglu_forward_args){.gate = gate, .up = up, .out = y}));
    TH_OK(hb_swiglu_backward(context, &(struct hb_swiglu_backward_args){
                                          .gate = gate, .up = up, .dout = dout, .dgate = dgate, .dup = dup}));
    th_keep(out, context, "out", y);
    th_keep(out, context, "dgate", dgate);
    th_keep(out, context, "dup", dup);
    struct hb_tensor *all[] = {&gate, &up, &dout, &y, &dgate, &dup};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

/* The same outputs with every permitted overlap: out over gate and over up, dgate over gate, dup over up. */
static void run_in_place(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype type[] = {th_storage(context, 0), th_storage(context, 1), th_storage(context, 2)};
    struct hb_tensor gate = th_1d(context, type[0], s->n, s->gate), up = th_1d(context, type[1], s->n, s->up);
    struct hb_tensor dout = th_1d(context, type[2], s->n, s->dout);
    struct hb_tensor gate_out = th_1d(context, type[0], s->n, s->gate),
                     up_out = th_1d(context, type[1], s->n, s->up);
    TH_OK(hb_swiglu_forward(context,
                            &(struct hb_swiglu_forward_args){.gate = gate_out, .up = up, .out = gate_out}));
    TH_OK(hb_swiglu_forward(context,
                            &(struct hb_swiglu_forward_args){.gate = gate, .up = up_out, .out = up_out}));
    TH_OK(hb_swiglu_backward(context, &(struct hb_swiglu_backward_args){
                                          .gate = gate, .up = up, .dout = dout, .dgate = gate, .dup = up}));
    th_keep(out, context, "out", gate_out);
    th_keep(out, context, "dgate", gate);
    th_keep(out, context, "dup", up);
    th_keep(out, context, "out over up", up_out);
    struct hb_tensor *all[] = {&gate, &up, &dout, &gate_out, &up_out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void run_on_ref(th_run what, const struct sample *s, struct th_outputs *out)
{
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    what(&context, s, out);
    hb_context_close(&context);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 15, 31, 32, 33, 63, 65, 257, 4095, 4097, 32769, 40003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && counts[i] != 257)
                continue;
            struct sample s = make(kind, 10 * i + (uint64_t)kind, counts[i]);
            char label[96];
            snprintf(label, sizeof label, "swiglu %d %s", (int)s.n, th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            th_same_bits_everywhere(label, run_in_place, &s);
            release(&s);
        }
    struct sample s = make(TH_NORMAL, 3, 40003);
    s.gate[1] = NAN;
    s.gate[40002] = -INFINITY;
    s.gate[500] = INFINITY;
    s.up[700] = NAN;
    s.dout[701] = INFINITY;
    th_same_bits_everywhere("swiglu with NaN", run, &s);
    release(&s);
}

static void test_in_place_is_apart(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 4, 1000);
    struct th_outputs apart = {0}, over = {0};
    run_on_ref(run, &s, &apart);
    run_on_ref(run_in_place, &s, &over);
    assert_memory_equal(over.item[3].data, over.item[0].data, (size_t)s.n * sizeof(float));
    struct th_outputs first_three = over;
    first_three.count = 3;
    th_assert_same_bits("in place", &apart, &first_three);
    th_outputs_release(&apart);
    th_outputs_release(&over);
    release(&s);
}

/* The sigmoid errs by at most 2.5 ulp, 5 u; results below the normal range by one denormal. */
static void test_against_double(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 5, 20000);
    struct th_outputs out = {0};
    run_on_ref(run, &s, &out);
    const float *y = out.item[0].data, *dgate = out.item[1].data, *dup = out.item[2].data;
    for (int64_t i = 0; i < s.n; i++) {
        double g = (double)s.gate[i], u = (double)s.up[i], d = (double)s.dout[i];
        double sigma = g < 0 ? exp(g) / (1 + exp(g)) : 1 / (1 + exp(-g)),
               opposite = g < 0 ? 1 / (1 + exp(g)) : exp(-g) / (1 + exp(-g));
        double least = 0x1p-126 * (1 + fabs(u) + fabs(d) + fabs(d * u)) * (1 + fabs(g));
        assert_true(fabs((double)y[i] - g * sigma * u) <= 7 * U * fabs(g * sigma * u) + least * U);
        assert_true(fabs((double)dup[i] - d * g * sigma) <= 7 * U * fabs(d * g * sigma) + least * U);
        /* 1 - s inherits 5 u absolutely, and g multiplies it. */
        double slope = sigma * (1 + g * opposite);
        double bound = 8 * U * fabs(d * u * slope) + fabs(d * u) * sigma * (6 * U * fabs(g) * sigma + U);
        assert_true(fabs((double)dgate[i] - d * u * slope) <= bound + least * U);
    }
    th_outputs_release(&out);
    release(&s);
}

/* silu(g) - silu(-g) = g: each errs by 6 u, and the difference by one more. */
static void test_symmetry(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 6, 2000);
    for (int64_t i = 0; i < s.n; i++)
        s.up[i] = 1.0f;
    struct th_outputs plus = {0}, minus = {0};
    run_on_ref(run, &s, &plus);
    for (int64_t i = 0; i < s.n; i++)
        s.gate[i] = -s.gate[i];
    run_on_ref(run, &s, &minus);
    for (int64_t i = 0; i < s.n; i++) {
        double a = (double)((float *)plus.item[0].data)[i], b = (double)((float *)minus.item[0].data)[i];
        assert_true(fabs(a - b + (double)s.gate[i]) <= 7 * U * (fabs(a) + fabs(b)) + 0x1p-140);
    }
    th_outputs_release(&plus);
    th_outputs_release(&minus);
    release(&s);
}

struct gradient {
    struct hb_context *context;
    int64_t n;
    double *gate, *up, *g;
};

static double loss(void *data)
{
    struct gradient *c = data;
    struct hb_tensor gate = th_1d(c->context, HB_F64, c->n, NULL), up = th_1d(c->context, HB_F64, c->n, NULL);
    th_put(c->context, gate, c->gate);
    th_put(c->context, up, c->up);
    TH_OK(hb_swiglu_forward(c->context, &(struct hb_swiglu_forward_args){.gate = gate, .up = up, .out = up}));
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++)
        sum += c->g[i] * ((double *)up.data)[i];
    th_free(c->context, &gate);
    th_free(c->context, &up);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_SAME_SIGN, 8, 60);
    for (int64_t i = 0; i < s.n; i++)
        s.gate[i] = (float)(i - 30) / 7.0f;
    struct th_outputs out = {0};
    run(&context, &s, &out);
    struct hb_tensor gate = th_1d(&context, HB_F64, s.n, s.gate), up = th_1d(&context, HB_F64, s.n, s.up);
    struct hb_tensor dout = th_1d(&context, HB_F64, s.n, s.dout);
    struct gradient c = {&context, s.n, gate.data, up.data, dout.data};
    th_check_gradient("swiglu dgate", loss, &c, c.gate, out.item[1].data, s.n);
    th_check_gradient("swiglu dup", loss, &c, c.up, out.item[2].data, s.n);
    th_free(&context, &gate);
    th_free(&context, &up);
    th_free(&context, &dout);
    th_outputs_release(&out);
    release(&s);
    hb_context_close(&context);
}

static void test_elements_alone(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 9, 200);
    struct th_outputs all = {0};
    run_on_ref(run, &s, &all);
    for (int64_t i = 0; i < s.n; i += 37) {
        struct sample one = {1, s.gate + i, s.up + i, s.dout + i};
        struct th_outputs alone = {0};
        run_on_ref(run, &one, &alone);
        for (int o = 0; o < 3; o++)
            assert_memory_equal(alone.item[o].data, (float *)all.item[o].data + i, sizeof(float));
        th_outputs_release(&alone);
    }
    th_outputs_release(&all);
    release(&s);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct hb_tensor a = th_1d(&context, HB_F32, 8, NULL), b = th_1d(&context, HB_F32, 8, NULL);
    struct hb_tensor c = th_1d(&context, HB_F32, 8, NULL);
    struct hb_swiglu_forward_args good = {.gate = a, .up = b, .out = c}, f = good;
    f.up.shape[0] = 7;
    assert_int_equal(hb_swiglu_forward(&context, &f), HB_ESHAPE);
    f = good;
    f.out.dtype = HB_I32;
    assert_int_equal(hb_swiglu_forward(&context, &f), HB_ESHAPE);
    f = good;
    f.gate.home = &other;
    assert_int_equal(hb_swiglu_forward(&context, &f), HB_EARGUMENT);
    f = good;
    f.gate = hb_tensor_rows(a, 0, 4);
    f.up = hb_tensor_rows(b, 0, 4);
    f.out = hb_tensor_rows(a, 2, 4);
    assert_int_equal(hb_swiglu_forward(&context, &f), HB_EARGUMENT);
    struct hb_swiglu_backward_args w = {.gate = a, .up = b, .dout = c, .dgate = a, .dup = b};
    w.dup = c;
    assert_int_equal(hb_swiglu_backward(&context, &w), HB_EARGUMENT);
    w.dup = a;
    assert_int_equal(hb_swiglu_backward(&context, &w), HB_EARGUMENT);
    w.dup = b;
    w.dout.rank = 2;
    assert_int_equal(hb_swiglu_backward(&context, &w), HB_ESHAPE);
    th_free(&context, &a);
    th_free(&context, &b);
    th_free(&context, &c);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),      cmocka_unit_test(test_in_place_is_apart),
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_symmetry),
        cmocka_unit_test(test_gradient),       cmocka_unit_test(test_elements_alone),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
