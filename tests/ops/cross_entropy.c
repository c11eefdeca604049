/* cross_entropy: bits of every backend, gradient, the formula in double with
 * derived bounds, ignored rows, NaN, refused calls, rows alone and in company. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

struct sample {
    int64_t n, V;
    float *logits;
    int32_t *labels;
    float factor;
};

/* Every fifth row is ignored. */
static struct sample make(enum th_kind kind, uint64_t seed, int64_t n, int64_t V)
{
    struct sample s = {n, V, th_numbers(kind, seed, n * V), th_integers(seed + 1, n, (int32_t)V), 0.0371f};
    for (int64_t t = 4; t < n; t += 5)
        s.labels[t] = -100;
    if (kind == TH_NORMAL)
        for (int64_t i = 0; i < n * V; i++)
            s.logits[i] *= 6.0f;
    return s;
}

static void release(struct sample *s)
{
    free(s->logits);
    free(s->labels);
}

/* The loss alone, then loss and gradient. */
static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype real = th_real(context);
    struct hb_tensor logits = th_2d(context, th_storage(context, 0), s->n, s->V, s->logits);
    struct hb_tensor labels = th_1d(context, HB_I32, s->n, s->labels),
                     loss = th_1d(context, real, s->n, NULL);
    struct hb_cross_entropy_args a = {.logits = logits, .labels = labels, .loss = loss, .factor = s->factor};
    TH_OK(hb_cross_entropy(context, &a));
    th_keep(out, context, "loss", loss);
    th_keep(out, context, "logits, untouched", logits);
    th_free(context, &loss);
    loss = th_1d(context, real, s->n, NULL);
    a.loss = loss;
    a.gradient = true;
    TH_OK(hb_cross_entropy(context, &a));
    th_keep(out, context, "loss beside gradient", loss);
    th_keep(out, context, "gradient", logits);
    th_free(context, &logits);
    th_free(context, &labels);
    th_free(context, &loss);
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
    static const int64_t shapes[][2] = {{0, 4},    {1, 1},     {3, 2},    {6, 31}, {7, 32},
                                        {5, 33},   {9, 63},    {6, 64},   {6, 65}, {11, 257},
                                        {5, 4095}, {12, 4097}, {1, 40001}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && i != 9)
                continue;
            struct sample s = make(kind, 10 * i + (uint64_t)kind, shapes[i][0], shapes[i][1]);
            char label[96];
            snprintf(label, sizeof label, "cross_entropy [%d,%d] %s", (int)s.n, (int)s.V, th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            release(&s);
        }
}

static struct sample spoilt(void)
{
    struct sample s = make(TH_NORMAL, 3, 130, 259);
    s.logits[3] = NAN;             /* in a group of 32 */
    s.logits[259 * 1 + 258] = NAN; /* in the rest */
    s.logits[259 * 2 + 8] = INFINITY;
    s.logits[259 * 3 + 8] = -INFINITY;
    for (int i = 0; i < 259; i++) {
        s.logits[259 * 4 + i] = NAN; /* ignored */
        s.logits[259 * 5 + i] = -INFINITY;
        s.logits[259 * 6 + i] = NAN;
    }
    return s;
}

static void test_nan(void **state)
{
    (void)state;
    struct sample s = spoilt();
    th_same_bits_everywhere("cross_entropy with NaN", run, &s);
    struct th_outputs out = {0};
    run_on_ref(&s, &out);
    const float *loss = out.item[0].data, *gradient = out.item[3].data;
    static const int bad[] = {0, 1, 2, 5, 6};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_true(isnan(loss[bad[k]]));
        for (int i = 0; i < 259 && bad[k] != 2; i++) /* all of a row with a NaN */
            assert_true(isnan(gradient[259 * bad[k] + i]));
    }
    assert_true(isfinite(loss[3]));
    assert_true(gradient[259 * 3 + 8] == 0.0f);
    th_outputs_release(&out);
    release(&s);
}

static void test_ignored(void **state)
{
    (void)state;
    struct sample s = spoilt();
    struct th_outputs out = {0};
    run_on_ref(&s, &out);
    float *zeros = calloc(259, sizeof *zeros);
    assert_non_null(zeros);
    for (int64_t t = 4; t < s.n; t += 5) {
        assert_memory_equal((float *)out.item[0].data + t, zeros, sizeof *zeros);
        assert_memory_equal((float *)out.item[2].data + t, zeros, sizeof *zeros);
        assert_memory_equal((float *)out.item[3].data + t * 259, zeros, 259 * sizeof *zeros);
    }
    free(zeros);
    th_outputs_release(&out);
    release(&s);
}

/* Bounds of docs/ops/cross_entropy.md: exp errs by 0.9 ulp (at most 1.8 u) and by
 * |l - m| u of its argument; the sum by `depth` roundings, all terms positive. */
static void test_against_double(void **state)
{
    (void)state;
    static const int64_t widths[] = {2, 100, 5000, 151936};
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        struct sample s = make(TH_NORMAL, 20 + k, 3, widths[k]);
        struct th_outputs out = {0};
        run_on_ref(&s, &out);
        double depth = ceil((double)s.V / 32) + 5;
        if (4 * sqrt(depth) < depth)
            depth = 4 * sqrt(depth);
        for (int64_t t = 0; t < s.n; t++) {
            const float *l = s.logits + t * s.V, *gradient = (float *)out.item[3].data + t * s.V;
            double m = -INFINITY, sum = 0, spread = 0, total = 0;
            for (int64_t i = 0; i < s.V; i++)
                m = fmax(m, (double)l[i]);
            for (int64_t i = 0; i < s.V; i++) {
                double e = exp((double)l[i] - m);
                sum += e;
                spread += e * (m - (double)l[i]);
            }
            double sum_error = U * (depth + 1.8 + spread / sum); /* relative */
            double target = (double)l[s.labels[t]], lse = m + log(sum), loss = lse - target;
            double bound = sum_error + U * (1.8 * log(sum) + fabs(lse) + fabs(loss));
            for (int o = 0; o <= 2; o += 2)
                assert_true(fabs((double)((float *)out.item[o].data)[t] - loss) <= bound);
            for (int64_t i = 0; i < s.V; i++) {
                double p = exp((double)l[i] - m) / sum, y = i == s.labels[t] ? 1 : 0, f = (double)s.factor;
                double p_error = p * (U * (1.8 + (m - (double)l[i]) + 1) + sum_error);
                bound = f * (p_error + 2 * U * fabs(p - y)) + 0x1p-149;
                assert_true(fabs((double)gradient[i] - (p - y) * f) <= bound);
                total += (double)gradient[i];
            }
            assert_true(fabs(total) <= (double)s.factor * (U * (4 + spread / sum) + 2 * sum_error) + 1e-12);
        }
        th_outputs_release(&out);
        release(&s);
    }
}

/* A constant added to a row, exactly representable, changes neither gradient nor order. */
static void test_shift(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 6, 9, 300);
    for (int64_t i = 0; i < s.n * s.V; i++)
        s.logits[i] = rintf(s.logits[i] * 64) / 64;
    struct th_outputs plain = {0}, shifted = {0};
    run_on_ref(&s, &plain);
    for (int64_t i = 0; i < s.n * s.V; i++)
        s.logits[i] += 1024.0f;
    run_on_ref(&s, &shifted);
    assert_memory_equal(plain.item[3].data, shifted.item[3].data, (size_t)(s.n * s.V) * sizeof(float));
    th_outputs_release(&plain);
    th_outputs_release(&shifted);
    release(&s);
}

struct gradient {
    struct hb_context *context;
    const struct sample *s;
    double *logits;
};

static double summed_loss(void *data)
{
    struct gradient *c = data;
    const struct sample *s = c->s;
    struct hb_tensor logits = th_2d(c->context, HB_F64, s->n, s->V, NULL);
    struct hb_tensor labels = th_1d(c->context, HB_I32, s->n, s->labels);
    struct hb_tensor loss = th_1d(c->context, HB_F64, s->n, NULL);
    th_put(c->context, logits, c->logits);
    TH_OK(hb_cross_entropy(
        c->context, &(struct hb_cross_entropy_args){.logits = logits, .labels = labels, .loss = loss}));
    double sum = 0;
    for (int64_t t = 0; t < s->n; t++)
        sum += ((double *)loss.data)[t];
    th_free(c->context, &logits);
    th_free(c->context, &labels);
    th_free(c->context, &loss);
    return (double)s->factor * sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_NORMAL, 7, 6, 20);
    struct th_outputs out = {0};
    run(&context, &s, &out);
    struct hb_tensor logits = th_2d(&context, HB_F64, s.n, s.V, s.logits);
    struct gradient c = {&context, &s, logits.data};
    th_check_gradient("cross_entropy", summed_loss, &c, c.logits, out.item[3].data, s.n * s.V);
    th_free(&context, &logits);
    th_outputs_release(&out);
    release(&s);
    hb_context_close(&context);
}

static void test_rows_alone(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 8, 12, 333), one = s;
    struct th_outputs all = {0};
    run_on_ref(&s, &all);
    one.n = 1;
    for (int64_t t = 0; t < s.n; t++) {
        struct th_outputs alone = {0};
        one.logits = s.logits + t * s.V;
        one.labels = s.labels + t;
        run_on_ref(&one, &alone);
        assert_memory_equal(alone.item[0].data, (float *)all.item[0].data + t, sizeof(float));
        assert_memory_equal(alone.item[3].data, (float *)all.item[3].data + t * s.V,
                            (size_t)s.V * sizeof(float));
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
    int32_t zeros[3] = {0};
    struct hb_tensor logits = th_2d(&context, HB_F32, 3, 4, NULL), labels = th_1d(&context, HB_I32, 3, zeros);
    struct hb_tensor loss = th_1d(&context, HB_F32, 3, NULL);
    struct hb_cross_entropy_args good = {.logits = logits, .labels = labels, .loss = loss}, a = good;
    TH_OK(hb_cross_entropy(&context, &good));
    a.labels.shape[0] = 2;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_ESHAPE);
    a = good;
    a.labels.dtype = HB_I64;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_ESHAPE);
    a = good;
    a.loss.shape[0] = 4;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_ESHAPE);
    a = good;
    a.loss.dtype = HB_F16;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_ESHAPE);
    a = good;
    a.logits.home = &other;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_EARGUMENT);
    a = good;
    a.loss.data = logits.data;
    assert_int_equal(hb_cross_entropy(&context, &a), HB_EARGUMENT);
    th_free(&context, &logits);
    th_free(&context, &labels);
    th_free(&context, &loss);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),  cmocka_unit_test(test_nan),
        cmocka_unit_test(test_ignored),    cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_shift),      cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_rows_alone), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
