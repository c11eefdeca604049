#include "ops/product.h"

#include "ops/check.h"

struct hb_product_sizes hb_product_sizes(const struct hb_product_args *args)
{
    const struct hb_tensor *a = &args->a, *b = &args->b;
    bool grouped = hb_given(&args->offsets);
    bool transposed = args->form == HB_PRODUCT_TN;
    int lead = grouped && !transposed; /* b carries the groups */
    return (struct hb_product_sizes){
        .m = transposed ? a->shape[1] : a->shape[0],
        .n = args->form == HB_PRODUCT_NT ? b->shape[lead] : b->shape[lead + 1],
        .k = transposed ? a->shape[0] : a->shape[1],
        .groups = grouped ? args->offsets.shape[0] - 1 : 1,
    };
}

static hb_status check(const struct hb_context *context, const struct hb_product_args *args)
{
    bool grouped = hb_given(&args->offsets);
    bool transposed = args->form == HB_PRODUCT_TN;
    HB_TRY(hb_check_tensor(context, "product", "a", &args->a, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, "product", "b", &args->b, HB_FLOATS, grouped && !transposed ? 3 : 2));
    HB_TRY(hb_check_tensor(context, "product", "out", &args->out,
                           args->epilogue == HB_CONTINUE ? HB_REAL : HB_FLOATS,
                           grouped && transposed ? 3 : 2));
    if (grouped) {
        HB_TRY(hb_check_tensor(context, "product", "offsets", &args->offsets, HB_ONLY(HB_I32), 1));
        if (args->offsets.shape[0] < 1)
            return HB_FAIL(HB_ESHAPE,
                           "product: offsets is empty, must have one entry more than there are groups");
    }
    struct hb_product_sizes s = hb_product_sizes(args);
    if (grouped && transposed)
        HB_TRY(hb_check_size("product", "out", &args->out, 0, s.groups));
    if (grouped && !transposed)
        HB_TRY(hb_check_size("product", "b", &args->b, 0, s.groups));
    int lead = grouped && !transposed;
    HB_TRY(hb_check_size("product", "b", &args->b, args->form == HB_PRODUCT_NT ? lead + 1 : lead, s.k));
    HB_TRY(hb_check_size("product", "out", &args->out, grouped && transposed ? 1 : 0, s.m));
    HB_TRY(hb_check_size("product", "out", &args->out, grouped && transposed ? 2 : 1, s.n));
    if (hb_given(&args->present)) {
        HB_TRY(hb_check_tensor(context, "product", "present", &args->present, HB_ONLY(HB_I32), 1));
        HB_TRY(hb_check_size("product", "present", &args->present, 0, s.groups));
        if (!grouped || !transposed || args->epilogue != HB_ADD)
            return HB_FAIL(HB_EARGUMENT, "product: present goes with grouped TN and the ADD epilogue only");
    }
    HB_TRY(hb_check_apart("product", "out", &args->out, "a", &args->a));
    return hb_check_apart("product", "out", &args->out, "b", &args->b);
}

hb_status hb_product(struct hb_context *context, const struct hb_product_args *args)
{
    HB_TRY(check(context, args));
    static const char *const labels[2][3] = {
        {[HB_PRODUCT_NT] = "product NT", [HB_PRODUCT_NN] = "product NN", [HB_PRODUCT_TN] = "product TN"},
        {[HB_PRODUCT_NT] = "product NT, experts",
         [HB_PRODUCT_NN] = "product NN, experts",
         [HB_PRODUCT_TN] = "product TN, experts"},
    };
    struct hb_product_sizes s = hb_product_sizes(args);
    double flops = 2.0 * (double)s.m * (double)s.n * (double)s.k;
    HB_DISPATCH_AS(context, product, labels[hb_given(&args->offsets)][args->form], args, flops);
}
