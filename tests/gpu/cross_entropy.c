/* The kernel of cross entropy: tails of a row, storage, ignored rows. */
#include "gpu/subjects.h"

struct sample {
    int64_t n, V;
    enum hb_dtype dtype;
    enum th_kind kind;
    bool gradient;
};

static void run(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    float *logits = th_numbers(s->kind, 1, s->n * s->V);
    int32_t *labels = th_integers(2, s->n, (int32_t)s->V);
    for (int64_t t = 3; t < s->n; t += 4)
        labels[t] = -100;
    struct hb_cross_entropy_args args = {
        .logits = th_2d(c, s->dtype, s->n, s->V, logits),
        .labels = th_1d(c, HB_I32, s->n, labels),
        .loss = th_1d(c, HB_F32, s->n, NULL),
        .gradient = s->gradient,
        .factor = 0.25f,
    };
    TH_OK(hb_cross_entropy(c, &args));
    TH_OK(hb_sync(c));
    th_keep(out, c, "loss", args.loss);
    th_keep(out, c, "logits", args.logits);
    th_free(c, &args.logits);
    th_free(c, &args.labels);
    th_free(c, &args.loss);
    free(logits);
    free(labels);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const enum hb_dtype type[] = {HB_F32, HB_BF16, HB_F16};
    static const int64_t widths[] = {1, 31, 33, 256, 300, 777};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int gradient = 0; gradient < 2; gradient++) {
            struct sample s = {9, widths[i], type[i % 3], TH_NORMAL, gradient};
            same_bits("cross entropy", run, &s, false);
        }
}

static void test_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < TH_KIND_COUNT; kind++) {
        struct sample s = {5, 70, HB_F32, (enum th_kind)kind, true};
        same_bits(th_kind_name((enum th_kind)kind), run, &s, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits), cmocka_unit_test(test_kinds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
