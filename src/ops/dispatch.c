#include "ops/dispatch.h"

#include "ops/check.h"

hb_status hb_dispatch_plan(struct hb_context *context, const struct hb_dispatch_plan_args *args)
{
    const char *op = "dispatch_plan";
    HB_TRY(hb_check_tensor(context, op, "index", &args->index, HB_ONLY(HB_I32), 2));
    int64_t pairs = hb_tensor_count(&args->index);
    if (pairs > INT32_MAX)
        return HB_FAIL(HB_ESHAPE, "dispatch_plan: %lld pairs overflow 32-bit rows; use a smaller microbatch",
                       (long long)pairs);
    HB_TRY(hb_check_tensor(context, op, "offsets", &args->offsets, HB_ONLY(HB_I32), 1));
    if (args->offsets.shape[0] < 2)
        return HB_FAIL(HB_ESHAPE, "dispatch_plan: offsets must have one entry more than there are experts");
    HB_TRY(hb_check_tensor(context, op, "row_of", &args->row_of, HB_ONLY(HB_I32), 2));
    HB_TRY(hb_check_like(op, "row_of", &args->row_of, "index", &args->index));
    HB_TRY(hb_check_tensor(context, op, "pair_of", &args->pair_of, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size(op, "pair_of", &args->pair_of, 0, pairs));
    HB_TRY(hb_check_apart(op, "row_of", &args->row_of, "index", &args->index));
    HB_TRY(hb_check_apart(op, "pair_of", &args->pair_of, "index", &args->index));
    HB_DISPATCH(context, dispatch_plan, args, 0);
}

hb_status hb_dispatch_forward(struct hb_context *context, const struct hb_dispatch_forward_args *args)
{
    const char *op = "dispatch_forward";
    HB_TRY(hb_check_tensor(context, op, "x", &args->x, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "pair_of", &args->pair_of, HB_ONLY(HB_I32), 1));
    int64_t n = args->x.shape[0], pairs = args->pair_of.shape[0];
    if (n == 0 ? pairs != 0 : pairs % n != 0)
        return HB_FAIL(HB_ESHAPE,
                       "dispatch_forward: pair_of has %lld entries, must have K for each of %lld tokens",
                       (long long)pairs, (long long)n);
    HB_TRY(hb_check_tensor(context, op, "rows", &args->rows, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "rows", &args->rows, 0, pairs));
    HB_TRY(hb_check_size(op, "rows", &args->rows, 1, args->x.shape[1]));
    HB_TRY(hb_check_apart(op, "rows", &args->rows, "x", &args->x));
    HB_DISPATCH(context, dispatch_forward, args, 0);
}

hb_status hb_dispatch_backward(struct hb_context *context, const struct hb_dispatch_backward_args *args)
{
    const char *op = "dispatch_backward";
    HB_TRY(hb_check_tensor(context, op, "drows", &args->drows, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "row_of", &args->row_of, HB_ONLY(HB_I32), 2));
    if (args->row_of.shape[1] < 1)
        return HB_FAIL(HB_ESHAPE, "dispatch_backward: row_of has no slots, must have K >= 1");
    HB_TRY(hb_check_size(op, "drows", &args->drows, 0, hb_tensor_count(&args->row_of)));
    HB_TRY(hb_check_tensor(context, op, "dx", &args->dx, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dx", &args->dx, 0, args->row_of.shape[0]));
    HB_TRY(hb_check_size(op, "dx", &args->dx, 1, args->drows.shape[1]));
    HB_TRY(hb_check_apart(op, "dx", &args->dx, "drows", &args->drows));
    HB_DISPATCH(context, dispatch_backward, args, 0);
}
