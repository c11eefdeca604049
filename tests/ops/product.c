/* product: bits of every backend, rule 1 written a second time, error bounds
 * against double (canonical and fast), gradients, refused calls, rows alone and
 * in company. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)

struct sample {
    enum hb_product_form form;
    int64_t m, n, k, groups; /* groups 0: not grouped; m, n, k as in hb_product_sizes */
    int32_t *offsets;        /* [groups + 1] */
    int32_t *present;        /* [groups], NULL: no flags */
    float *a, *b, *out;
    int64_t a_count, b_count, out_count;
};

static void fill(struct sample *s, enum th_kind kind, uint64_t seed)
{
    int64_t lead = s->groups && s->form != HB_PRODUCT_TN ? s->groups : 1;
    s->a_count = s->m * s->k;
    s->b_count = lead * s->n * s->k;
    s->out_count = (s->groups && s->form == HB_PRODUCT_TN ? s->groups : 1) * s->m * s->n;
    s->a = th_numbers(kind, seed, s->a_count);
    s->b = th_numbers(kind == TH_LARGE ? TH_NORMAL : kind, seed + 1, s->b_count);
    s->out = th_numbers(kind == TH_TINY ? TH_DENORMAL : kind, seed + 2, s->out_count);
}

static struct sample make(enum hb_product_form form, enum th_kind kind, uint64_t seed, int64_t m, int64_t n,
                          int64_t k)
{
    struct sample s = {.form = form, .m = m, .n = n, .k = k};
    fill(&s, kind, seed);
    return s;
}

/* `rows` of each group; the grouped dimension (m, or k of TN) is their sum. */
static struct sample make_groups(enum hb_product_form form, uint64_t seed, int64_t groups,
                                 const int32_t *rows, int64_t other, int64_t n)
{
    struct sample s = {.form = form, .n = n, .groups = groups};
    s.offsets = calloc((size_t)groups + 1, sizeof *s.offsets);
    s.present = form == HB_PRODUCT_TN ? calloc((size_t)groups + 1, sizeof *s.present) : NULL;
    assert_non_null(s.offsets);
    for (int64_t g = 0; g < groups; g++) {
        s.offsets[g + 1] = s.offsets[g] + rows[g];
        if (s.present)
            s.present[g] = g % 3 == 1;
    }
    s.m = form == HB_PRODUCT_TN ? other : s.offsets[groups];
    s.k = form == HB_PRODUCT_TN ? s.offsets[groups] : other;
    fill(&s, TH_NORMAL, seed);
    return s;
}

static void release(struct sample *s)
{
    free(s->offsets);
    free(s->present);
    free(s->a);
    free(s->b);
    free(s->out);
}

/* `type` of a, b and out. */
static struct hb_product_args upload_mixed(struct hb_context *c, const struct sample *s,
                                           const enum hb_dtype type[3], enum hb_product_epilogue epilogue)
{
    bool grouped = s->groups > 0, transposed = s->form == HB_PRODUCT_TN;
    int64_t b0 = s->form == HB_PRODUCT_NT ? s->n : s->k, b1 = s->form == HB_PRODUCT_NT ? s->k : s->n;
    struct hb_product_args args = {.form = s->form, .epilogue = epilogue};
    args.a = transposed ? th_2d(c, type[0], s->k, s->m, s->a) : th_2d(c, type[0], s->m, s->k, s->a);
    args.b = grouped && !transposed ? th_3d(c, type[1], s->groups, b0, b1, s->b)
                                    : th_2d(c, type[1], b0, b1, s->b);
    const float *out = epilogue == HB_STORE ? NULL : s->out;
    args.out = grouped && transposed ? th_3d(c, type[2], s->groups, s->m, s->n, out)
                                     : th_2d(c, type[2], s->m, s->n, out);
    if (grouped)
        args.offsets = th_1d(c, HB_I32, s->groups + 1, s->offsets);
    return args;
}

static struct hb_product_args upload(struct hb_context *c, const struct sample *s, enum hb_dtype dtype,
                                     enum hb_product_epilogue epilogue)
{
    return upload_mixed(c, s, (enum hb_dtype[]){dtype, dtype, dtype}, epilogue);
}

static void discard(struct hb_context *c, struct hb_product_args *args)
{
    th_free(c, &args->a);
    th_free(c, &args->b);
    th_free(c, &args->out);
    th_free(c, &args->offsets);
    th_free(c, &args->present);
}

static void run_one(struct hb_context *c, const struct sample *s, enum hb_product_epilogue epilogue,
                    bool flags, const char *name, struct th_outputs *out)
{
    enum hb_dtype type[] = {th_storage(c, 0), th_storage(c, 1), th_storage(c, 2)};
    if (epilogue == HB_CONTINUE)
        type[2] = th_real(c);
    struct hb_product_args args = upload_mixed(c, s, type, epilogue);
    if (flags)
        args.present = th_1d(c, HB_I32, s->groups, s->present);
    TH_OK(hb_product(c, &args));
    TH_OK(hb_sync(c));
    th_keep(out, c, name, args.out);
    if (flags)
        th_keep(out, c, "present", args.present);
    discard(c, &args);
}

static void run_store(struct hb_context *c, const void *data, struct th_outputs *out)
{
    run_one(c, data, HB_STORE, false, "store", out);
}

/* All epilogues, and `add` with presence flags where they are allowed. */
static void run(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    run_one(c, s, HB_STORE, false, "store", out);
    run_one(c, s, HB_CONTINUE, false, "continue", out);
    run_one(c, s, HB_ADD, false, "add", out);
    if (s->present)
        run_one(c, s, HB_ADD, true, "add with flags", out);
}

static void everywhere(th_run what, struct sample s, const char *kind)
{
    static const char *const form[] = {"NT", "NN", "TN"};
    char label[96];
    snprintf(label, sizeof label, "product %s %dx%dx%d groups %d %s", form[s.form], (int)s.m, (int)s.n,
             (int)s.k, (int)s.groups, kind);
    th_same_bits_everywhere(label, what, &s);
    release(&s);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},    {1, 33, 7},    {5, 16, 256},  {6, 31, 255},  {7, 32, 257},  {13, 65, 3},   {14, 64, 16},
        {15, 63, 17}, {29, 100, 64}, {31, 8, 513},  {2, 130, 600}, {3, 17, 4097}, {0, 5, 4},     {4, 0, 5},
        {4, 5, 0},    {64, 80, 300}, {33, 260, 65}, {100, 7, 512}, {150, 70, 70}, {257, 33, 66},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
            everywhere(run,
                       make((enum hb_product_form)form, TH_NORMAL, 10 * i, shapes[i][0], shapes[i][1],
                            shapes[i][2]),
                       "normal");
}

/* Shapes that need more than one block of columns, or of rows of a held total. */
static void test_same_bits_of_large(void **state)
{
    (void)state;
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
        everywhere(run, make((enum hb_product_form)form, TH_NORMAL, 1, 525, 9, 259), "many rows");
        everywhere(run, make((enum hb_product_form)form, TH_NORMAL, 2, 150, 1111, 5), "many columns");
        everywhere(run, make((enum hb_product_form)form, TH_NORMAL, 3, 9, 555, 130), "few rows");
    }
    everywhere(run_store, make(HB_PRODUCT_TN, TH_NORMAL, 4, 2100, 2064, 1), "beyond the cache");
}

static void test_same_bits_of_kinds(void **state)
{
    (void)state;
    for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
            everywhere(run, make((enum hb_product_form)form, kind, 40 + (uint64_t)kind, 17, 35, 270),
                       th_kind_name(kind));
}

static void test_same_bits_with_nan(void **state)
{
    (void)state;
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
        struct sample s = make((enum hb_product_form)form, TH_NORMAL, 50, 20, 40, 300);
        s.a[301] = NAN;
        s.a[4000] = INFINITY;
        s.b[77] = -INFINITY;
        s.b[9000] = NAN;
        s.out[3] = NAN;
        everywhere(run, s, "NaN and infinity");
    }
}

static void test_same_bits_of_groups(void **state)
{
    (void)state;
    static const int32_t rows[][8] = {
        {1, 0, 3, 14, 15, 0, 2, 7}, {0, 0, 0, 0, 0, 0, 0, 0}, {0, 150, 0, 1, 0, 0, 29, 0},
        {4, 4, 4, 4, 4, 4, 4, 4},
        {300, 2, 513, 0, 0, 1, 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
            everywhere(run, make_groups((enum hb_product_form)form, 60 + i, 8, rows[i], i == 4 ? 5 : 70, 67),
                       "groups");
            everywhere(run, make_groups((enum hb_product_form)form, 70 + i, 8, rows[i], 9, 32), "groups");
        }
    everywhere(run, make_groups(HB_PRODUCT_NT, 80, 3, (int32_t[]){1, 2, 1}, 300, 160), "groups, two chains");
    everywhere(run, make_groups(HB_PRODUCT_NN, 81, 1, (int32_t[]){5}, 300, 33), "one group");
    everywhere(run, make_groups(HB_PRODUCT_NN, 82, 2, (int32_t[]){3, 2}, 0, 33), "groups, k = 0");
}

/* Rule 1 a second time, written for one element on plain arrays. */
static float rule_1(const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t k, float old,
                    enum hb_product_epilogue epilogue)
{
    float sums[64];
    int count = 0;
    for (int64_t p = 0; p < k; p++) {
        if (p % 256 == 0)
            sums[count++] = 0.0f;
        sums[count - 1] = fmaf(a[p * a_step], b[p * b_step], sums[count - 1]);
    }
    if (count == 0)
        return epilogue == HB_STORE ? 0.0f : old;
    float total = epilogue == HB_CONTINUE ? old : sums[0];
    for (int i = epilogue == HB_CONTINUE ? 0 : 1; i < count; i++)
        total += sums[i];
    return epilogue == HB_ADD ? old + total : total;
}

static void test_rule_1(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
        for (int epilogue = HB_STORE; epilogue <= HB_ADD; epilogue++) {
            struct sample s = make((enum hb_product_form)form, TH_NORMAL, 90, 3, 5, 700);
            struct th_outputs got = {0};
            run_one(&context, &s, (enum hb_product_epilogue)epilogue, false, "out", &got);
            bool tn = form == HB_PRODUCT_TN, nt = form == HB_PRODUCT_NT;
            for (int64_t i = 0; i < s.m; i++)
                for (int64_t j = 0; j < s.n; j++) {
                    float expected = rule_1(tn ? s.a + i : s.a + i * s.k, tn ? s.m : 1,
                                            nt ? s.b + j * s.k : s.b + j, nt ? 1 : s.n, s.k,
                                            s.out[i * s.n + j], (enum hb_product_epilogue)epilogue);
                    float is = ((float *)got.item[0].data)[i * s.n + j];
                    assert_memory_equal(&expected, &is, sizeof is);
                }
            th_outputs_release(&got);
            release(&s);
        }
    /* Zeros: products of unlike sign start from +0, so the sum is +0, never -0. */
    struct sample zero = make(HB_PRODUCT_NT, TH_ZEROS, 91, 4, 4, 3);
    struct th_outputs got = {0};
    run_one(&context, &zero, HB_STORE, false, "out", &got);
    for (int64_t i = 0; i < 16; i++)
        assert_int_equal(hb_bits_of_f32(((float *)got.item[0].data)[i]), 0);
    th_outputs_release(&got);
    release(&zero);
    hb_context_close(&context);
}

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

/* y = x W^T; with loss = sum c y: dx = c W (NN), dW = c^T x (TN). */
struct gradient {
    struct hb_context *context;
    struct hb_product_args forward;
    struct hb_tensor changed;
    double *values, *c;
};

static double loss(void *data)
{
    struct gradient *g = data;
    th_put(g->context, g->changed, g->values);
    TH_OK(hb_product(g->context, &g->forward));
    double *y = th_doubles(g->context, g->forward.out), sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&g->forward.out); i++)
        sum += y[i] * g->c[i];
    free(y);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(HB_PRODUCT_NT, TH_NORMAL, 130, 3, 4, 5),
                  c = make(HB_PRODUCT_NN, TH_NORMAL, 131, 3, 5, 4);
    struct hb_product_args forward = upload(&context, &s, HB_F64, HB_STORE);
    struct hb_tensor dy = th_2d(&context, HB_F64, 3, 4, c.a);
    struct hb_tensor dx = th_2d(&context, HB_F64, 3, 5, NULL), dw = th_2d(&context, HB_F64, 4, 5, NULL);
    struct hb_product_args to_x = {.form = HB_PRODUCT_NN, .a = dy, .b = forward.b, .out = dx};
    struct hb_product_args to_w = {.form = HB_PRODUCT_TN, .a = dy, .b = forward.a, .out = dw};
    TH_OK(hb_product(&context, &to_x));
    TH_OK(hb_product(&context, &to_w));
    double *x = th_doubles(&context, forward.a), *w = th_doubles(&context, forward.b);
    double *x_gradient = th_doubles(&context, dx), *w_gradient = th_doubles(&context, dw);
    struct gradient g = {.context = &context, .forward = forward, .changed = forward.a, .values = x,
                         .c = th_doubles(&context, dy)};
    th_check_gradient("product dx", loss, &g, x, x_gradient, 15);
    th_put(&context, forward.a, x);
    g.changed = forward.b;
    g.values = w;
    th_check_gradient("product dW", loss, &g, w, w_gradient, 20);
    free(x);
    free(w);
    free(x_gradient);
    free(w_gradient);
    free(g.c);
    th_free(&context, &dy);
    th_free(&context, &dx);
    th_free(&context, &dw);
    discard(&context, &forward);
    hb_context_close(&context);
    release(&s);
    release(&c);
}

/* A row (and a group) computed alone has the bits it has in company. */
static void test_company(void **state)
{
    (void)state;
    const struct hb_cpu_level *levels;
    for (int l = 0, count = hb_cpu_levels(&levels); l < count; l++) {
        if (!levels[l].usable)
            continue;
        struct hb_context context;
        TH_OK(hb_context_open(levels[l].backend, HB_CANONICAL, 2, &context));
        struct sample s = make(HB_PRODUCT_NN, TH_NORMAL, 140, 150, 66, 300);
        struct hb_product_args together = upload(&context, &s, HB_F32, HB_STORE), alone = together;
        TH_OK(hb_product(&context, &together));
        alone.out = th_2d(&context, HB_F32, 1, s.n, NULL);
        for (int64_t i = 0; i < s.m; i += 29) {
            alone.a = hb_tensor_rows(together.a, i, 1);
            TH_OK(hb_product(&context, &alone));
            struct hb_tensor row = hb_tensor_rows(together.out, i, 1);
            assert_memory_equal(row.data, alone.out.data, hb_tensor_bytes(&row));
        }
        th_free(&context, &alone.out);
        discard(&context, &together);
        release(&s);
        hb_context_close(&context);
    }
}

/* Products that underflow to -0 stay -0 at the end of a chain: no chain without
 * elements is added, and the first one starts the total. */
static void test_negative_zero(void **state)
{
    (void)state;
    for (int64_t k = 1; k <= 512; k += k == 1 ? 255 : 256) {
        struct sample s = make(HB_PRODUCT_NT, TH_TINY, 77, 2, 3, k);
        struct th_outputs out = {0};
        struct hb_context c;
        for (int64_t i = 0; i < s.a_count; i++)
            s.a[i] = 1e-30f;
        for (int64_t i = 0; i < s.b_count; i++)
            s.b[i] = -1e-30f;
        th_same_bits_everywhere("-0", run_store, &s);
        TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
        run_store(&c, &s, &out);
        for (int64_t i = 0; i < s.out_count; i++)
            assert_int_equal(hb_bits_of_f32(((float *)out.item[0].data)[i]), 0x80000000u);
        th_outputs_release(&out);
        hb_context_close(&c);
        release(&s);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct sample s = make(HB_PRODUCT_NT, TH_NORMAL, 150, 4, 4, 4);
    struct hb_product_args good = upload(&context, &s, HB_F32, HB_ADD), bad;

    bad = good;
    bad.b.shape[1] = 3;
    assert_int_equal(hb_product(&context, &bad), HB_ESHAPE);
    bad = good;
    bad.out.shape[0] = 3;
    assert_int_equal(hb_product(&context, &bad), HB_ESHAPE);
    bad = good;
    bad.a.rank = 1;
    assert_int_equal(hb_product(&context, &bad), HB_ESHAPE);
    bad = good;
    bad.b.dtype = HB_I32;
    assert_int_equal(hb_product(&context, &bad), HB_ESHAPE);
    bad = good;
    bad.epilogue = HB_CONTINUE;
    bad.out.dtype = HB_BF16;
    assert_int_equal(hb_product(&context, &bad), HB_ESHAPE);
    bad = good;
    bad.a.home = &other;
    assert_true(hb_product(&context, &bad) > HB_OK);
    bad = good;
    bad.out.data = good.a.data;
    assert_true(hb_product(&context, &bad) > HB_OK);
    bad = good;
    bad.present = th_1d(&context, HB_I32, 1, (int32_t[]){0});
    assert_int_equal(hb_product(&context, &bad), HB_EARGUMENT);
    th_free(&context, &bad.present);

    double *before = th_doubles(&context, good.out);
    for (int64_t i = 0; i < s.out_count; i++)
        assert_true(before[i] == (double)s.out[i]); /* refused means unchanged */
    free(before);
    discard(&context, &good);
    release(&s);
    hb_context_close(&other);
    hb_context_close(&context);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    struct hb_context context;
    TH_OK(hb_context_open(cpu, HB_CANONICAL, 2, &context));
    struct sample s = make(HB_PRODUCT_NT, TH_NORMAL, 160, 4, 4, 4);
    struct hb_product_args args = upload(&context, &s, HB_F32, HB_STORE);
    hb_memory_fail_at(1);
    assert_int_equal(hb_product(&context, &args), HB_EMEMORY);
    hb_memory_fail_at(0);
    TH_OK(hb_product(&context, &args));
    discard(&context, &args);
    release(&s);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_of_large),
        cmocka_unit_test(test_same_bits_of_kinds),
        cmocka_unit_test(test_same_bits_with_nan),
        cmocka_unit_test(test_same_bits_of_groups),
        cmocka_unit_test(test_rule_1),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_fast),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_negative_zero),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
