/* A product with its operands, for the tests of product: made from a seed, uploaded, run. */
#ifndef HB_TESTS_OPS_PRODUCT_CASE_H
#define HB_TESTS_OPS_PRODUCT_CASE_H

#include "ops/harness.h"

struct sample {
    enum hb_product_form form;
    int64_t m, n, k, groups; /* groups 0: not grouped; m, n, k as in hb_product_sizes */
    int32_t *offsets;        /* [groups + 1] */
    int32_t *present;        /* [groups], NULL: no flags */
    float *a, *b, *out;
    int64_t a_count, b_count, out_count;
};

static inline void fill(struct sample *s, enum th_kind kind, uint64_t seed)
{
    int64_t lead = s->groups && s->form != HB_PRODUCT_TN ? s->groups : 1;
    s->a_count = s->m * s->k;
    s->b_count = lead * s->n * s->k;
    s->out_count = (s->groups && s->form == HB_PRODUCT_TN ? s->groups : 1) * s->m * s->n;
    s->a = th_numbers(kind, seed, s->a_count);
    s->b = th_numbers(kind == TH_LARGE ? TH_NORMAL : kind, seed + 1, s->b_count);
    s->out = th_numbers(kind == TH_TINY ? TH_DENORMAL : kind, seed + 2, s->out_count);
}

static inline struct sample make(enum hb_product_form form, enum th_kind kind, uint64_t seed, int64_t m,
                                 int64_t n, int64_t k)
{
    struct sample s = {.form = form, .m = m, .n = n, .k = k};
    fill(&s, kind, seed);
    return s;
}

/* `rows` of each group; the grouped dimension (m, or k of TN) is their sum. */
static inline struct sample make_groups(enum hb_product_form form, uint64_t seed, int64_t groups,
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

static inline void release(struct sample *s)
{
    free(s->offsets);
    free(s->present);
    free(s->a);
    free(s->b);
    free(s->out);
}

/* `type` of a, b and out. */
static inline struct hb_product_args upload_mixed(struct hb_context *c, const struct sample *s,
                                                  const enum hb_dtype type[3],
                                                  enum hb_product_epilogue epilogue)
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

static inline struct hb_product_args upload(struct hb_context *c, const struct sample *s,
                                            enum hb_dtype dtype, enum hb_product_epilogue epilogue)
{
    return upload_mixed(c, s, (enum hb_dtype[]){dtype, dtype, dtype}, epilogue);
}

static inline void discard(struct hb_context *c, struct hb_product_args *args)
{
    th_free(c, &args->a);
    th_free(c, &args->b);
    th_free(c, &args->out);
    th_free(c, &args->offsets);
    th_free(c, &args->present);
}

static inline void run_one(struct hb_context *c, const struct sample *s, enum hb_product_epilogue epilogue,
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

static inline void run_store(struct hb_context *c, const void *data, struct th_outputs *out)
{
    run_one(c, data, HB_STORE, false, "store", out);
}

/* All epilogues, and `add` with presence flags where they are allowed. */
static inline void run(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    run_one(c, s, HB_STORE, false, "store", out);
    run_one(c, s, HB_CONTINUE, false, "continue", out);
    run_one(c, s, HB_ADD, false, "add", out);
    if (s->present)
        run_one(c, s, HB_ADD, true, "add with flags", out);
}

#endif
