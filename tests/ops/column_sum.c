/* column_sum: bits of every backend, the order of the sum spelt out a second
 * time, a bound against double, gradient, refused calls. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

struct sample {
    int64_t n, D;
    float *x, *out;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n, int64_t D)
{
    return (struct sample){n, D, th_numbers(kind, seed, n * D), th_numbers(kind, seed + 1, D)};
}

static void release(struct sample *s)
{
    free(s->x);
    free(s->out);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype real = th_real(context);
    struct hb_tensor x = th_2d(context, th_storage(context, 0), s->n, s->D, s->x);
    struct hb_tensor stored = th_1d(context, real, s->D, NULL), added = th_1d(context, real, s->D, s->out);
    TH_OK(hb_column_sum(context, &(struct hb_column_sum_args){.x = x, .out = stored, .epilogue = HB_STORE}));
    TH_OK(hb_column_sum(context, &(struct hb_column_sum_args){.x = x, .out = added, .epilogue = HB_ADD}));
    th_keep(out, context, "stored", stored);
    th_keep(out, context, "added", added);
    th_free(context, &x);
    th_free(context, &stored);
    th_free(context, &added);
}

static void run_on_ref(const struct sample *s, struct th_outputs *out)
{
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, s, out);
    hb_context_close(&context);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{0, 3},    {1, 1},    {1, 65},    {63, 33},  {64, 32},   {65, 31},
                                        {129, 64}, {321, 63}, {449, 128}, {1025, 7}, {4097, 33}, {70, 1025}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && i != 7)
                continue;
            struct sample s = make(kind, 10 * i, shapes[i][0], shapes[i][1]);
            char label[96];
            snprintf(label, sizeof label, "column_sum [%d,%d] %s", (int)s.n, (int)s.D, th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            release(&s);
        }
    struct sample s = make(TH_NORMAL, 3, 640, 65);
    s.x[3] = s.x[65 * 600 + 9] = NAN;
    s.x[65 * 70 + 11] = INFINITY;
    s.x[65 * 71 + 11] = -INFINITY;
    th_same_bits_everywhere("column_sum with NaN", run, &s);
    release(&s);
}

/* Rule 4 once more, recursively: chunks of 64, then [a, b) at a + the largest power of two below b - a. */
static float tree(const float *leaves, int64_t n)
{
    if (n == 1)
        return leaves[0];
    int64_t left = 1;
    while (2 * left < n)
        left *= 2;
    return tree(leaves, left) + tree(leaves + left, n - left);
}

static void test_order(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 1000; n += 61) {
        struct sample s = make(TH_NORMAL, (uint64_t)n, n, 3);
        struct th_outputs out = {0};
        run_on_ref(&s, &out);
        for (int64_t i = 0; i < s.D; i++) {
            float chunk[16];
            int64_t chunks = 0;
            for (int64_t t = 0; t < n; t++)
                if (t % 64 == 0)
                    chunk[chunks++] = s.x[t * s.D + i];
                else
                    chunk[chunks - 1] += s.x[t * s.D + i];
            float sum = tree(chunk, chunks);
            assert_true(((float *)out.item[0].data)[i] == sum);
            assert_true(((float *)out.item[1].data)[i] == s.out[i] + sum);
        }
        th_outputs_release(&out);
        release(&s);
    }
}

static void test_against_double(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct sample s = make(k ? TH_SAME_SIGN : TH_NORMAL, 5, 5000, 4);
        struct th_outputs out = {0};
        run_on_ref(&s, &out);
        double depth = 63 + 7; /* 79 chunks */
        for (int64_t i = 0; i < s.D; i++) {
            double sum = 0, terms = 0;
            for (int64_t t = 0; t < s.n; t++) {
                sum += (double)s.x[t * s.D + i];
                terms += fabs((double)s.x[t * s.D + i]);
            }
            double error = fabs((double)((float *)out.item[0].data)[i] - sum);
            assert_true(error <= depth * U * terms);
            assert_true(error <= 4 * sqrt(depth) * U * terms);
        }
        th_outputs_release(&out);
        release(&s);
    }
}

static void test_no_rows(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 6, 0, 5);
    s.out[2] = -0.0f;
    struct th_outputs out = {0};
    run_on_ref(&s, &out);
    const float zeros[5] = {0};
    assert_memory_equal(out.item[0].data, zeros, sizeof zeros);
    assert_memory_equal(out.item[1].data, s.out, sizeof zeros);
    th_outputs_release(&out);
    release(&s);
}

struct gradient {
    struct hb_context *context;
    int64_t n, D;
    double *x;
};

static double loss(void *data)
{
    struct gradient *c = data;
    struct hb_tensor x = th_2d(c->context, HB_F64, c->n, c->D, NULL),
                     out = th_1d(c->context, HB_F64, c->D, NULL);
    th_put(c->context, x, c->x);
    TH_OK(hb_column_sum(c->context, &(struct hb_column_sum_args){.x = x, .out = out, .epilogue = HB_STORE}));
    double sum = 0;
    for (int64_t i = 0; i < c->D; i++)
        sum += (double)(i + 1) * ((double *)out.data)[i];
    th_free(c->context, &x);
    th_free(c->context, &out);
    return sum;
}

/* Every element has derivative 1 in its own column and 0 elsewhere. */
static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    enum { N = 130, D = 3 };
    double x[N * D], dx[N * D];
    for (int i = 0; i < N * D; i++) {
        x[i] = sin(i);
        dx[i] = i % D + 1;
    }
    struct gradient c = {&context, N, D, x};
    th_check_gradient("column_sum", loss, &c, x, dx, N * D);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct hb_tensor x = th_2d(&context, HB_F32, 3, 4, NULL), out = th_1d(&context, HB_F32, 4, NULL);
    struct hb_column_sum_args good = {.x = x, .out = out, .epilogue = HB_STORE}, a = good;
    TH_OK(hb_column_sum(&context, &good));
    a.out.shape[0] = 3;
    assert_int_equal(hb_column_sum(&context, &a), HB_ESHAPE);
    a = good;
    a.out.dtype = HB_F16;
    assert_int_equal(hb_column_sum(&context, &a), HB_ESHAPE);
    a = good;
    a.x.rank = 3;
    assert_int_equal(hb_column_sum(&context, &a), HB_ESHAPE);
    a = good;
    a.epilogue = HB_CONTINUE;
    assert_int_equal(hb_column_sum(&context, &a), HB_EARGUMENT);
    a = good;
    a.out.data = x.data;
    assert_int_equal(hb_column_sum(&context, &a), HB_EARGUMENT);
    a = good;
    a.x.home = &other;
    assert_int_equal(hb_column_sum(&context, &a), HB_EARGUMENT);
    th_free(&context, &x);
    th_free(&context, &out);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_order),
        cmocka_unit_test(test_no_rows),   cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_gradient),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
