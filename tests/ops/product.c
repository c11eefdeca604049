/* product: bits of every backend, rule 1 written a second time, gradients, refused
 * calls, rows alone and in company. Its error bounds: product_bound.c. */
#include "ops/product_case.h"

#include <math.h>
#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"

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
            void *expected = th_host(&context, row), *got = th_host(&context, alone.out);
            assert_memory_equal(expected, got, hb_tensor_bytes(&row));
            free(expected);
            free(got);
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
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_negative_zero),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
