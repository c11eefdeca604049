#include "ops/product.h"

#include "ref/ref.h"

enum { CHAIN = 256 };

/* One group as plain matrices: element (i, p) of a lies at a + i a_row + p a_step, (p, j) of b alike. */
struct view {
    int64_t a, a_row, a_step;
    int64_t b, b_column, b_step;
    int64_t out, m, n, k;
};

static struct view view_of_group(const struct hb_product_args *args, int64_t g)
{
    struct hb_product_sizes s = hb_product_sizes(args);
    int64_t begin = 0, end = args->form == HB_PRODUCT_TN ? s.k : s.m;
    if (args->offsets.data) {
        begin = ((const int32_t *)args->offsets.data)[g];
        end = ((const int32_t *)args->offsets.data)[g + 1];
    }
    switch (args->form) {
    case HB_PRODUCT_NT:
        return (struct view){.a = begin * s.k, .a_row = s.k, .a_step = 1,
                             .b = g * s.n * s.k, .b_column = s.k, .b_step = 1,
                             .out = begin * s.n, .m = end - begin, .n = s.n, .k = s.k};
    case HB_PRODUCT_NN:
        return (struct view){.a = begin * s.k, .a_row = s.k, .a_step = 1,
                             .b = g * s.k * s.n, .b_column = 1, .b_step = s.n,
                             .out = begin * s.n, .m = end - begin, .n = s.n, .k = s.k};
    default:
        return (struct view){.a = begin * s.m, .a_row = 1, .a_step = s.m,
                             .b = begin * s.n, .b_column = 1, .b_step = s.n,
                             .out = g * s.m * s.n, .m = s.m, .n = s.n, .k = end - begin};
    }
}

/* Rule 1: chains of 256 from +0, their sums added ascending; the first one starts the total. */
static real element(const struct hb_product_args *args, const struct view *v, int64_t i, int64_t j,
                    enum hb_product_epilogue epilogue)
{
    real old = epilogue == HB_STORE ? 0 : load(&args->out, v->out + i * v->n + j);
    real total = epilogue == HB_CONTINUE ? old : 0;
    for (int64_t begin = 0; begin < v->k; begin += CHAIN) {
        real acc = 0;
        for (int64_t p = begin; p < v->k && p < begin + CHAIN; p++)
            acc = real_fma(load(&args->a, v->a + i * v->a_row + p * v->a_step),
                           load(&args->b, v->b + j * v->b_column + p * v->b_step), acc);
        total = begin == 0 && epilogue != HB_CONTINUE ? acc : total + acc;
    }
    return epilogue == HB_ADD ? old + total : total;
}

hb_status HB_REF(product)(struct hb_context *context, const struct hb_product_args *args)
{
    (void)context;
    int64_t groups = hb_product_sizes(args).groups;
    int32_t *present = args->present.data;
    for (int64_t g = 0; g < groups; g++) {
        struct view v = view_of_group(args, g);
        enum hb_product_epilogue epilogue = args->epilogue;
        if (v.k == 0 && epilogue != HB_STORE)
            continue;
        if (present && present[g] == 0) {
            epilogue = HB_STORE;
            present[g] = 1;
        }
        for (int64_t i = 0; i < v.m; i++)
            for (int64_t j = 0; j < v.n; j++)
                store(&args->out, v.out + i * v.n + j, element(args, &v, i, j, epilogue));
    }
    return HB_OK;
}
