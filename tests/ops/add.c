/* add: bits of every backend in floats and integers, the correctly rounded
 * sum, aliasing, gradient, refused calls. */
#include "ops/harness.h"

#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

struct sample {
    int64_t n;
    float *a, *b;
    int64_t *ia, *ib;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n)
{
    struct sample s = {.n = n, .a = th_numbers(kind, seed, n), .b = th_numbers(kind, seed + 1, n)};
    s.ia = calloc((size_t)n + 1, sizeof *s.ia);
    s.ib = calloc((size_t)n + 1, sizeof *s.ib);
    assert_true(s.ia && s.ib);
    for (size_t i = 0; i < (size_t)n; i++) {
        s.ia[i] = (INT64_C(1) << 60) / ((int64_t)i + 1);
        s.ib[i] = (i % 2 ? -1 : 1) * (int64_t)i * 1000003;
    }
    return s;
}

static void release(struct sample *s)
{
    free(s->a);
    free(s->b);
    free(s->ia);
    free(s->ib);
}

/* Apart, over a, over b; then i64. */
static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype type_a = th_storage(context, 0), type_b = th_storage(context, 1);
    struct hb_tensor a = th_1d(context, type_a, s->n, s->a), b = th_1d(context, type_b, s->n, s->b);
    struct hb_tensor over_a = th_1d(context, type_a, s->n, s->a), over_b = th_1d(context, type_b, s->n, s->b);
    struct hb_tensor y = th_1d(context, th_storage(context, 2), s->n, NULL),
                     iy = th_1d(context, HB_I64, s->n, NULL);
    struct hb_tensor ia = th_1d(context, HB_I64, s->n, s->ia), ib = th_1d(context, HB_I64, s->n, s->ib);
    TH_OK(hb_add(context, &(struct hb_add_args){.a = a, .b = b, .out = y}));
    TH_OK(hb_add(context, &(struct hb_add_args){.a = over_a, .b = b, .out = over_a}));
    TH_OK(hb_add(context, &(struct hb_add_args){.a = a, .b = over_b, .out = over_b}));
    TH_OK(hb_add(context, &(struct hb_add_args){.a = ia, .b = ib, .out = iy}));
    th_keep(out, context, "out", y);
    th_keep(out, context, "over a", over_a);
    th_keep(out, context, "over b", over_b);
    th_keep(out, context, "integers", iy);
    struct hb_tensor *all[] = {&a, &b, &over_a, &over_b, &y, &iy, &ia, &ib};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 31, 32, 33, 63, 65, 257, 4095, 4097, 40003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && counts[i] != 4097)
                continue;
            struct sample s = make(kind, 10 * i + (uint64_t)kind, counts[i]);
            if (s.n > 64) {
                s.a[3] = NAN;
                s.a[33] = s.b[34] = INFINITY;
                s.a[64] = INFINITY;
                s.b[64] = -INFINITY;
            }
            char label[96];
            snprintf(label, sizeof label, "add %d %s", (int)s.n, th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            release(&s);
        }
}

/* The sum of two floats is exact in double or rounds there far below half an ulp
 * of fp32 (fp64 has more than twice the digits): rounding it again is correct. */
static void test_correctly_rounded(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 4, 5000);
    struct hb_context context;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &s, &out);
    hb_context_close(&context);
    for (int64_t i = 0; i < s.n; i++) {
        float expected = (float)((double)s.a[i] + (double)s.b[i]);
        for (int o = 0; o < 3; o++)
            assert_true(((float *)out.item[o].data)[i] == expected);
        assert_true(((int64_t *)out.item[3].data)[i] == s.ia[i] + s.ib[i]);
    }
    th_outputs_release(&out);
    release(&s);
}

static void test_bf16_rounds_once(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    float *x = th_numbers(TH_NORMAL, 5, 300);
    struct hb_tensor a = th_1d(&context, HB_BF16, 150, x), b = th_1d(&context, HB_BF16, 150, x + 150);
    struct hb_tensor y = th_1d(&context, HB_BF16, 150, NULL);
    TH_OK(hb_add(&context, &(struct hb_add_args){.a = a, .b = b, .out = y}));
    uint16_t *stored = th_host(&context, y);
    for (int i = 0; i < 150; i++) {
        float sum = hb_f32_of_bf16(hb_bf16_of_f32(x[i])) + hb_f32_of_bf16(hb_bf16_of_f32(x[150 + i]));
        assert_int_equal(stored[i], hb_bf16_of_f32(sum));
    }
    free(stored);
    th_free(&context, &a);
    th_free(&context, &b);
    th_free(&context, &y);
    free(x);
    hb_context_close(&context);
}

struct gradient {
    struct hb_context *context;
    int64_t n;
    double *x;
    const float *b;
    const double *g;
};

static double loss(void *data)
{
    struct gradient *c = data;
    struct hb_tensor a = th_1d(c->context, HB_F64, c->n, NULL), b = th_1d(c->context, HB_F64, c->n, c->b);
    th_put(c->context, a, c->x);
    TH_OK(hb_add(c->context, &(struct hb_add_args){.a = a, .b = b, .out = b}));
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++)
        sum += c->g[i] * ((double *)b.data)[i];
    th_free(c->context, &a);
    th_free(c->context, &b);
    return sum;
}

/* The gradient of a sum is handed on as it is. */
static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_NORMAL, 6, 40);
    float *numbers = th_numbers(TH_NORMAL, 8, s.n);
    double g[40], x[40];
    for (int i = 0; i < 40; i++) {
        g[i] = (double)numbers[i];
        x[i] = (double)s.a[i];
    }
    struct gradient c = {&context, s.n, x, s.b, g};
    th_check_gradient("add", loss, &c, x, g, s.n);
    free(numbers);
    release(&s);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct hb_tensor a = th_1d(&context, HB_F32, 8, NULL), i = th_1d(&context, HB_I64, 8, NULL);
    struct hb_add_args good = {.a = a, .b = a, .out = a}, f = good;
    TH_OK(hb_add(&context, &good));
    f.b.shape[0] = 7;
    assert_int_equal(hb_add(&context, &f), HB_ESHAPE);
    f = good;
    f.b = i;
    assert_int_equal(hb_add(&context, &f), HB_ESHAPE);
    f = (struct hb_add_args){.a = i, .b = i, .out = a};
    assert_int_equal(hb_add(&context, &f), HB_ESHAPE);
    f = good;
    f.a.dtype = f.b.dtype = f.out.dtype = HB_I32;
    assert_int_equal(hb_add(&context, &f), HB_ESHAPE);
    f = good;
    f.b.home = &other;
    assert_int_equal(hb_add(&context, &f), HB_EARGUMENT);
    f = (struct hb_add_args){
        .a = hb_tensor_rows(a, 0, 4), .b = hb_tensor_rows(a, 4, 4), .out = hb_tensor_rows(a, 1, 4)};
    assert_int_equal(hb_add(&context, &f), HB_EARGUMENT);
    f.out = (struct hb_tensor){.home = &context, .dtype = HB_F32, .rank = 1, .shape = {4, 1, 1, 1, 1, 1}};
    assert_int_equal(hb_add(&context, &f), HB_EARGUMENT);
    th_free(&context, &a);
    th_free(&context, &i);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),        cmocka_unit_test(test_correctly_rounded),
        cmocka_unit_test(test_bf16_rounds_once), cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
