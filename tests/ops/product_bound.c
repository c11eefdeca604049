/* product: error bounds against double (canonical and fast), every form of the
 * fast one, and results that storage rounds once. */
#include "ops/product_case.h"

#include <float.h>
#include <math.h>

#include "cpu/select.h"
#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

/* The bounds of docs/ops/product.md; returns the largest share of the sharp one. */
static double check_bounds(struct hb_context *context, enum hb_product_form form, enum th_kind kind,
                           int64_t k)
{
    struct sample s = make(form, kind, 100 + (uint64_t)k, 19, 37, k);
    struct hb_product_args args = upload(context, &s, HB_F32, HB_ADD);
    TH_OK(hb_product(context, &args));
    double *got = th_doubles(context, args.out), share = 0;
    /* Roundings that one term goes through: in its chain, among the chains, in `add`. */
    int64_t canonical = (k < 256 ? k : 256) + (k + 255) / 256;
    double depth = (double)(context->numerics == HB_CANONICAL ? canonical : k + 1);
    bool tn = form == HB_PRODUCT_TN, nt = form == HB_PRODUCT_NT;
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++) {
            double truth = (double)s.out[i * s.n + j], terms = fabs(truth);
            for (int64_t p = 0; p < k; p++) {
                double term = (double)s.a[tn ? p * s.m + i : i * k + p] *
                              (double)s.b[nt ? j * k + p : p * s.n + j];
                truth += term;
                terms += fabs(term);
            }
            double error = fabs(got[i * s.n + j] - truth);
            double worst = depth * U / (1 - depth * U) * terms, sharp = 4 * sqrt(depth) * U * terms;
            if (!(error <= worst) || !(error <= sharp))
                fail_msg("form %d k %d: error %.3g, worst case %.3g, sharp bound %.3g", (int)form, (int)k,
                         error, worst, sharp);
            share = fmax(share, error / sharp);
        }
    free(got);
    discard(context, &args);
    release(&s);
    return share;
}

static void bounds_of(const struct hb_backend *backend, enum hb_numerics numerics, const char *name)
{
    struct hb_context context;
    TH_OK(hb_context_open(backend, numerics, 2, &context));
    double share = 0;
    static const int64_t depth[] = {1, 31, 256, 1000, 5000};
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
        for (size_t d = 0; d < sizeof depth / sizeof *depth; d++) {
            share = fmax(share, check_bounds(&context, (enum hb_product_form)form, TH_NORMAL, depth[d]));
            share = fmax(share, check_bounds(&context, (enum hb_product_form)form, TH_SAME_SIGN, depth[d]));
        }
    print_message("%s: at most %.0f %% of the sharp bound\n", name, 100 * share);
    hb_context_close(&context);
}

static void test_bounds(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    bounds_of(cpu, HB_CANONICAL, "canonical");
#ifdef HB_HAVE_OPENBLAS
    bounds_of(cpu, HB_FAST, "fast");
#endif
}

#ifdef HB_HAVE_OPENBLAS

static void assert_near(const char *label, const struct sample *s, const struct th_outputs *expected,
                        const struct th_outputs *got)
{
    assert_int_equal(expected->count, got->count);
    for (int o = 0; o < expected->count; o++) {
        const struct th_output *e = &expected->item[o], *g = &got->item[o];
        if (e->dtype == HB_I32) {
            assert_memory_equal(e->data, g->data, (size_t)e->n * sizeof(int32_t));
            continue;
        }
        for (int64_t i = 0; i < e->n; i++) {
            const float *x = e->data, *y = g->data;
            if (isnan(x[i]) && isnan(y[i])) /* groups without rows, STORE of nothing */
                continue;
            double bound = 1e-5 * sqrt((double)s->k + 1);
            if (!(fabs((double)x[i] - (double)y[i]) <= bound))
                fail_msg("%s: %s[%lld] is %g, canonical %g", label, e->name, (long long)i, (double)y[i],
                         (double)x[i]);
        }
    }
}

/* Every form, epilogue and group of the fast product means the same as canonical. */
static void test_fast(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    static const int32_t rows[] = {1, 0, 30, 14, 0, 2};
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
        struct sample samples[] = {
            make((enum hb_product_form)form, TH_NORMAL, 110, 33, 20, 300),
            make((enum hb_product_form)form, TH_NORMAL, 111, 7, 9, 0),
            make_groups((enum hb_product_form)form, 112, 6, rows, 40, 24),
        };
        for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
            struct hb_context canonical, fast;
            struct th_outputs expected = {0}, got = {0};
            TH_OK(hb_context_open(cpu, HB_CANONICAL, 2, &canonical));
            TH_OK(hb_context_open(cpu, HB_FAST, 2, &fast));
            run(&canonical, &samples[i], &expected);
            run(&fast, &samples[i], &got);
            assert_near("fast product", &samples[i], &expected, &got);
            th_outputs_release(&expected);
            th_outputs_release(&got);
            hb_context_close(&canonical);
            hb_context_close(&fast);
            release(&samples[i]);
        }
    }
}

#else

static void test_fast(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    struct hb_context fast;
    TH_OK(hb_cpu_select(&cpu));
    TH_OK(hb_context_open(cpu, HB_FAST, 1, &fast));
    struct sample s = make(HB_PRODUCT_NT, TH_NORMAL, 1, 2, 3, 4);
    struct hb_product_args args = upload(&fast, &s, HB_F32, HB_STORE);
    assert_int_equal(hb_product(&fast, &args), HB_EUNSUPPORTED);
    discard(&fast, &args);
    release(&s);
    hb_context_close(&fast);
}

#endif

/* Each storage type: the operands as stored, the result rounded once. */
static void test_storage(void **state)
{
    (void)state;
    struct hb_context c;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
    for (enum hb_dtype dtype = HB_BF16; dtype <= HB_F16; dtype++) {
        struct sample s = make(HB_PRODUCT_NN, TH_NORMAL, 120, 5, 6, 300);
        struct hb_product_args narrow = upload(&c, &s, dtype, HB_STORE);
        TH_OK(hb_product(&c, &narrow));
        double *a = th_doubles(&c, narrow.a), *b = th_doubles(&c, narrow.b),
               *got = th_doubles(&c, narrow.out);
        for (int64_t i = 0; i < s.a_count; i++)
            s.a[i] = (float)a[i];
        for (int64_t i = 0; i < s.b_count; i++)
            s.b[i] = (float)b[i];
        struct hb_product_args wide = upload(&c, &s, HB_F32, HB_STORE);
        TH_OK(hb_product(&c, &wide));
        double *exact = th_doubles(&c, wide.out);
        for (int64_t i = 0; i < s.out_count; i++) {
            float x = (float)exact[i];
            float rounded = dtype == HB_BF16 ? hb_f32_of_bf16(hb_bf16_of_f32(x))
                                             : hb_f32_of_f16(hb_f16_of_f32(x));
            assert_true((double)rounded == got[i]);
        }
        discard(&c, &narrow);
        discard(&c, &wide);
        free(a);
        free(b);
        free(got);
        free(exact);
        release(&s);
    }
    hb_context_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_fast),
                                       cmocka_unit_test(test_storage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
