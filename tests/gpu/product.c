/* The kernels of product: both sizes of tiles, edges, chains, every mixture of
 * storage, groups in one launch, numbers whose products underflow. */
#include "gpu/subjects.h"

#include <math.h>

struct sample {
    enum hb_product_form form;
    enum hb_product_epilogue epilogue;
    int64_t m, n, k, groups; /* groups 0: not grouped; m (k of TN) is then the sum of rows */
    int32_t rows[8];
    enum th_kind kind;
    enum hb_dtype a, b, out;
    bool flags;
};

static void run(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    bool transposed = s->form == HB_PRODUCT_TN, lead = s->groups > 0 && !transposed;
    int64_t groups = s->groups ? s->groups : 1, b_count = (lead ? groups : 1) * s->n * s->k;
    int64_t out_count = (s->groups && transposed ? groups : 1) * s->m * s->n;
    float *a = th_numbers(s->kind, 1, s->m * s->k), *b = th_numbers(s->kind, 2, b_count);
    float *old = th_numbers(s->kind == TH_TINY ? TH_ZEROS : s->kind, 3, out_count);
    for (int64_t i = 0; s->kind == TH_TINY && i < out_count; i++)
        old[i] = -0.0f;
    int64_t b0 = s->form == HB_PRODUCT_NT ? s->n : s->k, b1 = s->form == HB_PRODUCT_NT ? s->k : s->n;
    struct hb_product_args args = {.form = s->form, .epilogue = s->epilogue};
    args.a = transposed ? th_2d(c, s->a, s->k, s->m, a) : th_2d(c, s->a, s->m, s->k, a);
    args.b = lead ? th_3d(c, s->b, groups, b0, b1, b) : th_2d(c, s->b, b0, b1, b);
    const float *start = s->epilogue == HB_STORE ? NULL : old;
    args.out = s->groups && transposed ? th_3d(c, s->out, groups, s->m, s->n, start)
                                       : th_2d(c, s->out, s->m, s->n, start);
    if (s->groups) {
        int32_t offsets[9] = {0}, present[8];
        for (int64_t g = 0; g < groups; g++) {
            offsets[g + 1] = offsets[g] + s->rows[g];
            present[g] = g % 3 == 1;
        }
        args.offsets = th_1d(c, HB_I32, groups + 1, offsets);
        if (s->flags)
            args.present = th_1d(c, HB_I32, groups, present);
    }
    TH_OK(hb_product(c, &args));
    TH_OK(hb_sync(c));
    th_keep(out, c, "out", args.out);
    if (s->flags)
        th_keep(out, c, "present", args.present);
    struct hb_tensor *all[] = {&args.a, &args.b, &args.out, &args.offsets, &args.present};
    for (int i = 0; i < 3 + (s->groups > 0) + s->flags; i++)
        th_free(c, all[i]);
    free(a);
    free(b);
    free(old);
}

static void check(struct sample s)
{
    static const char *const form[] = {"NT", "NN", "TN"}, *const epilogue[] = {"store", "continue", "add"};
    static const char *const type[] = {[HB_F32] = "f32", [HB_BF16] = "bf16", [HB_F16] = "f16"};
    for (int64_t g = 0; g < s.groups; g++)
        *(s.form == HB_PRODUCT_TN ? &s.k : &s.m) += s.rows[g];
    char label[128];
    snprintf(label, sizeof label, "%s %s %dx%dx%d, %d groups, %s, %s x %s to %s", form[s.form],
             epilogue[s.epilogue], (int)s.m, (int)s.n, (int)s.k, (int)s.groups, th_kind_name(s.kind),
             type[s.a], type[s.b], type[s.out]);
    same_bits(label, run, &s, s.m * s.n * s.k > 100000);
}

#define F32 .a = HB_F32, .b = HB_F32, .out = HB_F32

static void test_tiles(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},      {1, 65, 17},   {33, 1, 16},   {32, 64, 256}, {31, 63, 255}, {129, 3, 257},
        {128, 128, 16}, {127, 121, 5}, {250, 249, 33}, {2, 70, 700}, {0, 5, 4},     {5, 0, 4},
        {5, 4, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
            check((struct sample){.form = (enum hb_product_form)form,
                                  .epilogue = (enum hb_product_epilogue)((i + (size_t)form) % 3),
                                  .m = shapes[i][0],
                                  .n = shapes[i][1],
                                  .k = shapes[i][2],
                                  F32});
}

/* The large tiles over several chains, each epilogue. */
static void test_chains(void **state)
{
    (void)state;
    for (int epilogue = HB_STORE; epilogue <= HB_ADD; epilogue++)
        check((struct sample){.form = HB_PRODUCT_NT,
                              .epilogue = (enum hb_product_epilogue)epilogue,
                              .m = 120,
                              .n = 128,
                              .k = 530,
                              F32});
}

/* Sums of ±0 from products that underflow: a step too many would turn -0 into +0. */
static void test_underflow(void **state)
{
    (void)state;
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
        for (int epilogue = HB_STORE; epilogue <= HB_ADD; epilogue++) {
            struct sample s = {.form = (enum hb_product_form)form,
                               .epilogue = (enum hb_product_epilogue)epilogue,
                               .m = 9,
                               .n = 66,
                               .k = 13,
                               .kind = TH_TINY,
                               F32};
            check(s);
            s.m = s.n = 128;
            s.k = 259;
            check(s);
        }
}

static void test_storage(void **state)
{
    (void)state;
    static const enum hb_dtype type[] = {HB_F32, HB_BF16, HB_F16};
    for (int i = 0; i < 27; i++) {
        struct sample s = {.form = (enum hb_product_form)(i % 3), .m = 13, .n = 67, .k = 37, .a = type[i % 3],
                           .b = type[i / 3 % 3], .out = type[i / 9]};
        check(s);
        s.epilogue = HB_ADD;
        s.m = 130;
        s.n = 125;
        check(s);
    }
}

static void test_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < TH_KIND_COUNT; kind++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
            check((struct sample){.form = (enum hb_product_form)form,
                                  .epilogue = HB_ADD,
                                  .m = 35,
                                  .n = 66,
                                  .k = 270,
                                  .kind = (enum th_kind)kind,
                                  F32});
}

static void test_groups(void **state)
{
    (void)state;
    static const int32_t rows[][8] = {
        {1, 0, 3, 32, 33, 0, 2, 64},
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 150, 0, 1, 0, 0, 129, 0},
        {300, 2, 13, 0, 0, 1, 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
            bool transposed = form == HB_PRODUCT_TN;
            struct sample s = {.form = (enum hb_product_form)form, .n = 67, .groups = 8, F32};
            memcpy(s.rows, rows[i], sizeof s.rows);
            *(transposed ? &s.m : &s.k) = 40;
            check(s);
            s.epilogue = HB_CONTINUE;
            check(s);
            s.epilogue = HB_ADD;
            s.flags = transposed;
            s.a = HB_BF16;
            check(s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),   cmocka_unit_test(test_chains), cmocka_unit_test(test_underflow),
        cmocka_unit_test(test_storage), cmocka_unit_test(test_kinds),  cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
