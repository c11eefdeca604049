/* router: bits, gradients of every variant, the order of ties and NaNs, refusals. */
#include <math.h>
#include <stdio.h>

#include "cpu/select.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct router_case {
    int64_t n, E, K;
    bool renormalise, bias, selection, aux;
    float z;
    const float *logits;
};

/* The tensors of one call; forward fills them, backward reads them. */
struct router {
    struct hb_router_forward_args forward;
    struct hb_router_backward_args backward;
};

static struct router make(struct hb_context *context, const struct router_case *c)
{
    enum hb_dtype real = th_real(context);
    float *bias = th_numbers(TH_NORMAL, 11, c->E), *selection = th_numbers(TH_NORMAL, 12, c->E);
    float *fraction = th_numbers(TH_SAME_SIGN, 13, c->E), *dweight = th_numbers(TH_NORMAL, 14, c->n * c->K);
    int64_t *counts = calloc((size_t)c->E, sizeof *counts);
    assert_non_null(counts);
    for (int64_t i = 0; i < c->E; i++) {
        counts[i] = 1000 + i; /* accumulated, not stored */
        selection[i] *= 0.05f;
    }
    struct router r = {0};
    r.forward.logits = th_2d(context, real, c->n, c->E, c->logits);
    if (c->bias)
        r.forward.bias = th_1d(context, real, c->E, bias);
    if (c->selection)
        r.forward.selection_bias = th_1d(context, real, c->E, selection);
    r.forward.renormalise = r.backward.renormalise = c->renormalise;
    r.forward.probs = r.backward.probs = th_2d(context, real, c->n, c->E, NULL);
    r.forward.lse = r.backward.lse = th_1d(context, real, c->n, NULL);
    r.forward.index = r.backward.index = th_2d(context, HB_I32, c->n, c->K, NULL);
    r.forward.weight = r.backward.weight = th_2d(context, real, c->n, c->K, NULL);
    r.forward.counts = th_1d(context, HB_I64, c->E, counts);
    r.backward.dweight = th_2d(context, real, c->n, c->K, dweight);
    if (c->aux)
        r.backward.fraction = th_1d(context, real, c->E, fraction);
    r.backward.aux_factor = 0.375f;
    r.backward.aux_rows = c->n ? 3 * c->n : 1;
    r.backward.z_factor = c->z;
    r.backward.dlogits = th_2d(context, real, c->n, c->E, NULL);
    free(bias);
    free(selection);
    free(fraction);
    free(dweight);
    free(counts);
    return r;
}

static void release(struct hb_context *context, struct router *r)
{
    th_free(context, &r->forward.logits);
    th_free(context, &r->forward.bias);
    th_free(context, &r->forward.selection_bias);
    th_free(context, &r->forward.probs);
    th_free(context, &r->forward.lse);
    th_free(context, &r->forward.index);
    th_free(context, &r->forward.weight);
    th_free(context, &r->forward.counts);
    th_free(context, &r->backward.dweight);
    th_free(context, &r->backward.fraction);
    th_free(context, &r->backward.dlogits);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    struct router r = make(context, data);
    TH_OK(hb_router_forward(context, &r.forward));
    th_keep(out, context, "probs", r.forward.probs);
    th_keep(out, context, "lse", r.forward.lse);
    th_keep(out, context, "index", r.forward.index);
    th_keep(out, context, "weight", r.forward.weight);
    th_keep(out, context, "counts", r.forward.counts);
    TH_OK(hb_router_backward(context, &r.backward));
    th_keep(out, context, "dlogits", r.backward.dlogits);
    release(context, &r);
}

static void same_bits(struct router_case c, enum th_kind kind)
{
    char label[120];
    float *logits = th_numbers(kind, (uint64_t)(c.E * 1000 + c.K), c.n * c.E);
    c.logits = logits;
    snprintf(label, sizeof label, "router n %lld E %lld K %lld %s%s%s%s%s z %g", (long long)c.n,
             (long long)c.E, (long long)c.K, th_kind_name(kind), c.renormalise ? " renormalised" : "",
             c.bias ? " bias" : "", c.selection ? " selection" : "", c.aux ? " aux" : "", (double)c.z);
    th_same_bits_everywhere(label, run, &c);
    free(logits);
}

static void test_bits_over_shapes(void **state)
{
    (void)state;
    static const int64_t experts[] = {1, 2, 7, 31, 32, 33, 64, 65, 128, 257};
    for (size_t e = 0; e < sizeof experts / sizeof *experts; e++) {
        int64_t E = experts[e];
        int64_t slots[] = {1, 2, 8, 33, E};
        for (size_t k = 0; k < 5; k++)
            if (slots[k] <= E) {
                bool odd = (e + k) % 2;
                float z = odd ? 0.5f : 0;
                same_bits((struct router_case){5, E, slots[k], odd, !odd, k % 3 == 0, e % 3 != 0, z, NULL},
                          TH_NORMAL);
            }
    }
    same_bits((struct router_case){0, 8, 2, true, false, false, true, 0.5f, NULL}, TH_NORMAL);
    same_bits((struct router_case){1, 128, 8, true, false, false, true, 0.5f, NULL}, TH_NORMAL);
    /* enough for all threads */
    same_bits((struct router_case){520, 65, 8, true, false, true, true, 0.5f, NULL}, TH_NORMAL);
}

static void test_bits_over_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < TH_KIND_COUNT; kind++) {
        same_bits((struct router_case){9, 40, 4, true, true, true, true, 0.25f, NULL}, (enum th_kind)kind);
        same_bits((struct router_case){9, 40, 40, false, true, false, false, 0.25f, NULL},
                  (enum th_kind)kind);
    }
}

static void test_bits_of_rows_that_are_not_finite(void **state)
{
    (void)state;
    enum { n = 6, E = 37 };
    float *logits = th_numbers(TH_NORMAL, 5, n * E);
    logits[0 * E + 3] = NAN;
    logits[1 * E + 36] = INFINITY;
    logits[2 * E + 0] = -INFINITY;
    for (int i = 0; i < E; i++) {
        logits[3 * E + i] = -INFINITY;
        logits[4 * E + i] = NAN;
    }
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        struct router_case c = {n, E, 5, renormalise, false, true, true, 0.5f, logits};
        th_same_bits_everywhere("router, rows that are not finite", run, &c);
    }
    free(logits);
}

/* Sorts ids by the definition, in a way of its own: repeatedly takes the best that is left. */
static void expect_choice(const float *key, int64_t E, int64_t K, const int32_t *index)
{
    bool *taken = calloc((size_t)E, sizeof *taken);
    assert_non_null(taken);
    for (int64_t j = 0; j < K; j++) {
        int64_t best = -1;
        for (int64_t i = 0; i < E; i++)
            if (!taken[i] && (best < 0 || key[i] > key[best] || (isnan(key[best]) && !isnan(key[i]))))
                best = i;
        assert_int_equal(index[j], best);
        taken[best] = true;
    }
    free(taken);
}

static void check_choices(struct hb_context *context)
{
    enum { n = 40, E = 24 };
    float *logits = th_numbers(TH_NORMAL, 21, n * E), selection[E];
    for (int64_t i = 0; i < n * E; i++)
        logits[i] = roundf(2 * logits[i]) / 2; /* many ties */
    for (int i = 0; i < E; i++) {
        logits[i] = 0.5f;    /* token 0: all equal */
        logits[E + i] = NAN; /* token 1: all NaN */
        selection[i] = 0.125f * (float)(i % 3);
    }
    selection[4] = selection[9] = NAN;
    selection[7] = INFINITY;
    selection[8] = -INFINITY;
    for (int K = 1; K <= E; K += K < 4 ? 1 : 5) {
        struct router_case c = {n, E, K, false, false, true, false, 0, logits};
        struct router r = make(context, &c);
        TH_OK(hb_copy_in(context, r.forward.selection_bias, selection));
        float probs[n * E], key[E], weight[n * E];
        int32_t index[n * E];
        int64_t counts[E], expected[E];
        for (int with = 0; with < 2; with++) {
            struct hb_router_forward_args args = r.forward;
            if (!with)
                args.selection_bias.data = NULL;
            TH_OK(hb_zero(context, args.counts));
            TH_OK(hb_router_forward(context, &args));
            TH_OK(hb_copy_out(context, probs, args.probs));
            TH_OK(hb_copy_out(context, index, args.index));
            TH_OK(hb_copy_out(context, weight, args.weight));
            TH_OK(hb_copy_out(context, counts, args.counts));
            memset(expected, 0, sizeof expected);
            for (int t = 0; t < n; t++) {
                for (int i = 0; i < E; i++)
                    key[i] = probs[t * E + i] + (with ? selection[i] : 0.0f);
                expect_choice(key, E, K, index + t * K);
                for (int j = 0; j < K; j++) {
                    expected[index[t * K + j]]++;
                    float p = probs[t * E + index[t * K + j]];
                    assert_true(weight[t * K + j] == p || isnan(p));
                }
            }
            assert_memory_equal(counts, expected, sizeof expected);
        }
        release(context, &r);
    }
    free(logits);
}

static void test_choices_ties_and_nan(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    const struct hb_backend *backends[] = {&hb_backend_ref, cpu};
    for (int b = 0; b < 2; b++) {
        struct hb_context context;
        TH_OK(hb_context_open(backends[b], HB_CANONICAL, 2, &context));
        check_choices(&context);
        hb_context_close(&context);
    }
}

/* Softmax against long double. In units of u = 2^-24, relative: l - m is rounded once (|l - m| u
 * on e), exp 0.87 ulp (1.74 u), a lane adds E / 32 numbers and the tree 5, division 1; the errors
 * of the largest |l - m| and of exp come in again through the sum. */
static void test_softmax_within_bound(void **state)
{
    (void)state;
    enum { n = 30, E = 130, K = 6 };
    const double u = 0x1p-24;
    float *logits = th_numbers(TH_NORMAL, 31, n * E);
    for (int64_t i = 0; i < n * E; i++)
        logits[i] *= 4;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct router_case c = {n, E, K, true, false, false, false, 0, logits};
    struct router r = make(&context, &c);
    TH_OK(hb_router_forward(&context, &r.forward));
    double *probs = th_doubles(&context, r.forward.probs), *lse = th_doubles(&context, r.forward.lse);
    double *weight = th_doubles(&context, r.forward.weight), worst = 0;
    for (int t = 0; t < n; t++) {
        const float *l = logits + t * E;
        float m = l[0], least = l[0];
        for (int i = 0; i < E; i++) {
            m = fmaxf(m, l[i]);
            least = fminf(least, l[i]);
        }
        long double s = 0;
        for (int i = 0; i < E; i++)
            s += expl((long double)l[i] - m);
        double range = (double)m - (double)least, total = 0, weights = 0;
        double of_sum = range + 1.74 + E / 32 + 1 + 5;
        for (int i = 0; i < E; i++) {
            double p = (double)(expl((long double)l[i] - m) / s);
            double bound = 1.001 * u * p * (((double)m - (double)l[i]) + 1.74 + of_sum + 1) + 0x1p-148;
            worst = fmax(worst, fabs(probs[t * E + i] - p) / bound);
            total += probs[t * E + i];
        }
        for (int j = 0; j < K; j++)
            weights += weight[t * K + j];
        assert_true(fabs(total - 1) <= 1.001 * u * (E / 32 + 1 + 5 + 1));
        assert_true(fabs(weights - 1) <= 1.001 * u * (1 + 5 + 1));
        double exact = (double)((long double)m + logl(s));
        assert_true(fabs(lse[t] - exact) <= 1.001 * u * (of_sum + 2 * logl(s) + fabs(exact)));
    }
    if (!(worst <= 1))
        fail_msg("softmax leaves its bound: %g of it", worst);
    assert_true(worst > 0.001); /* else the bound says nothing */
    free(probs);
    free(lse);
    free(weight);
    release(&context, &r);
    hb_context_close(&context);
    free(logits);
}

/* A row has the same bits alone and in company. */
static void test_rows_alone(void **state)
{
    (void)state;
    enum { n = 700, E = 48, K = 4 };
    float *logits = th_numbers(TH_NORMAL, 41, n * E);
    const struct hb_backend *cpu;
    struct hb_context context;
    TH_OK(hb_cpu_select(&cpu));
    TH_OK(hb_context_open(cpu, HB_CANONICAL, 3, &context));
    struct router_case c = {n, E, K, true, true, true, false, 0, logits};
    struct th_outputs all = {0};
    run(&context, &c, &all);
    for (int t = 0; t < n; t += 87) {
        struct th_outputs one = {0};
        c.n = 1;
        c.logits = logits + t * E;
        run(&context, &c, &one);
        assert_memory_equal((float *)all.item[0].data + t * E, one.item[0].data, E * sizeof(float));
        assert_memory_equal((float *)all.item[1].data + t, one.item[1].data, sizeof(float));
        assert_memory_equal((int32_t *)all.item[2].data + t * K, one.item[2].data, K * sizeof(int32_t));
        assert_memory_equal((float *)all.item[3].data + t * K, one.item[3].data, K * sizeof(float));
        th_outputs_release(&one);
    }
    th_outputs_release(&all);
    hb_context_close(&context);
    free(logits);
}

/* loss = sum dweight weight + aux_factor E dot(f, probs) / rows + z_factor mean lse^2 */
struct gradient {
    struct hb_context *context;
    struct router *router;
    const struct router_case *c;
    const double *dweight, *fraction;
    double *logits, *bias;
    double kept_choice;
};

static double loss(void *data)
{
    struct gradient *g = data;
    struct router *r = g->router;
    const struct router_case *c = g->c;
    th_put(g->context, r->forward.logits, g->logits);
    if (c->bias)
        th_put(g->context, r->forward.bias, g->bias);
    TH_OK(hb_router_forward(g->context, &r->forward));
    double *weight = th_doubles(g->context, r->forward.weight);
    double *probs = th_doubles(g->context, r->forward.probs);
    double *lse = th_doubles(g->context, r->forward.lse), *index = th_doubles(g->context, r->forward.index);
    double sum = 0, aux = 0, z = 0, choice = 0;
    for (int64_t i = 0; i < c->n * c->K; i++) {
        sum += g->dweight[i] * weight[i];
        choice = 31 * choice + index[i];
    }
    for (int64_t i = 0; c->aux && i < c->n * c->E; i++)
        aux += g->fraction[i % c->E] * probs[i];
    for (int64_t t = 0; t < c->n; t++)
        z += lse[t] * lse[t];
    if (g->kept_choice == 0)
        g->kept_choice = choice;
    assert_true(choice == g->kept_choice); /* the routing margin holds */
    free(weight);
    free(probs);
    free(lse);
    free(index);
    return sum + (double)r->backward.aux_factor * (double)c->E * aux / (double)r->backward.aux_rows +
           (double)c->z * z / (double)c->n;
}

static void check_gradient(struct router_case c)
{
    /* logits on a grid of 1/8, shuffled differently per token, so that no two keys are near */
    float *logits = malloc((size_t)(c.n * c.E) * sizeof *logits);
    assert_non_null(logits);
    for (int64_t t = 0; t < c.n; t++)
        for (int64_t i = 0; i < c.E; i++)
            logits[t * c.E + i] = 0.125f * (float)((5 * i + 3 * t) % c.E) - 0.3f * (float)t;
    c.logits = logits;
    struct hb_context context;
    th_open_double(&context);
    struct router r = make(&context, &c);
    struct gradient g = {.context = &context, .router = &r, .c = &c};
    g.logits = th_doubles(&context, r.forward.logits);
    g.bias = c.bias ? th_doubles(&context, r.forward.bias) : NULL;
    double *dweight = th_doubles(&context, r.backward.dweight);
    double *fraction = c.aux ? th_doubles(&context, r.backward.fraction) : NULL;
    g.dweight = dweight;
    g.fraction = fraction;
    loss(&g);
    TH_OK(hb_router_backward(&context, &r.backward));
    double *dlogits = th_doubles(&context, r.backward.dlogits), dbias[16] = {0};
    char label[120];
    snprintf(label, sizeof label, "router K %lld renormalise %d bias %d selection %d aux %d z %g",
             (long long)c.K, c.renormalise, c.bias, c.selection, c.aux, (double)c.z);
    th_check_gradient(label, loss, &g, g.logits, dlogits, c.n * c.E);
    for (int64_t i = 0; i < c.n * c.E; i++)
        dbias[i % c.E] += dlogits[i];
    if (c.bias)
        th_check_gradient(label, loss, &g, g.bias, dbias, c.E);
    free(dlogits);
    free(dweight);
    free(fraction);
    free(g.logits);
    free(g.bias);
    release(&context, &r);
    hb_context_close(&context);
    free(logits);
}

static void test_gradients(void **state)
{
    (void)state;
    for (int variant = 0; variant < 32; variant++)
        for (int dense = 0; dense < 2; dense++)
            check_gradient((struct router_case){3, 8, dense ? 8 : 3, variant & 1, variant & 2, variant & 4,
                                                variant & 8, variant & 16 ? 0.7f : 0, NULL});
}

/* Values by hand: two experts with logits 0 and ln 3 have probabilities 1/4 and 3/4. */
static void test_by_hand(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    float logits[2] = {0, 1.0986122886681098f};
    struct router_case c = {1, 2, 2, false, false, false, false, 0, logits};
    struct router r = make(&context, &c);
    th_put(&context, r.backward.dweight, (double[]){1, -1});
    TH_OK(hb_router_forward(&context, &r.forward));
    TH_OK(hb_router_backward(&context, &r.backward));
    double *weight = th_doubles(&context, r.forward.weight), *index = th_doubles(&context, r.forward.index);
    double *dlogits = th_doubles(&context, r.backward.dlogits);
    double *counts = th_doubles(&context, r.forward.counts);
    assert_true(index[0] == 1 && index[1] == 0);
    assert_true(fabs(weight[0] - 0.75) < 1e-7 && fabs(weight[1] - 0.25) < 1e-7);
    /* sum dw p = 1/2: dl_1 = 3/4 (1 - 1/2), dl_0 = 1/4 (-1 - 1/2) */
    assert_true(fabs(dlogits[1] - 0.375) < 1e-7 && fabs(dlogits[0] + 0.375) < 1e-7);
    assert_true(counts[0] == 1001 && counts[1] == 1002);
    free(weight);
    free(index);
    free(dlogits);
    free(counts);
    release(&context, &r);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    float logits[12] = {0};
    struct router_case c = {3, 4, 2, true, true, true, true, 0.5f, logits};
    struct router r = make(&context, &c);
    TH_OK(hb_router_forward(&context, &r.forward));

    struct hb_router_forward_args f = r.forward;
    f.logits.shape[1] = 3;
    assert_int_equal(hb_router_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.counts.dtype = HB_I32;
    assert_int_equal(hb_router_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.index.shape[1] = f.weight.shape[1] = 5; /* K > E */
    assert_int_equal(hb_router_forward(&context, &f), HB_ESHAPE);
    f.index.shape[1] = f.weight.shape[1] = 0;
    assert_int_equal(hb_router_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.bias.shape[0] = 3;
    assert_int_equal(hb_router_forward(&context, &f), HB_ESHAPE);
    f = r.forward;
    f.selection_bias.home = &other;
    assert_int_equal(hb_router_forward(&context, &f), HB_EARGUMENT);
    f = r.forward;
    f.probs = f.logits;
    assert_int_equal(hb_router_forward(&context, &f), HB_EARGUMENT);

    struct hb_router_backward_args b = r.backward;
    b.dweight.shape[0] = 2;
    assert_int_equal(hb_router_backward(&context, &b), HB_ESHAPE);
    b = r.backward;
    b.fraction.shape[0] = 5;
    assert_int_equal(hb_router_backward(&context, &b), HB_ESHAPE);
    b = r.backward;
    b.aux_rows = 0;
    assert_int_equal(hb_router_backward(&context, &b), HB_EARGUMENT);
    b = r.backward;
    b.dlogits = b.probs;
    assert_int_equal(hb_router_backward(&context, &b), HB_EARGUMENT);
    b = r.backward;
    b.lse.dtype = HB_F64;
    assert_int_equal(hb_router_backward(&context, &b), HB_ESHAPE);

    release(&context, &r);
    hb_context_close(&other);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_over_shapes),
        cmocka_unit_test(test_bits_over_kinds),
        cmocka_unit_test(test_bits_of_rows_that_are_not_finite),
        cmocka_unit_test(test_choices_ties_and_nan),
        cmocka_unit_test(test_softmax_within_bound),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
