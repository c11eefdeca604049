#include "ops/rmsnorm.h"

#include "ops/check.h"

hb_status hb_rmsnorm_forward(struct hb_context *context, const struct hb_rmsnorm_forward_args *args)
{
    const char *op = "rmsnorm_forward";
    HB_TRY(hb_check_tensor(context, op, "x", &args->x, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "weight", &args->weight, HB_FLOATS, 1));
    HB_TRY(hb_check_size(op, "weight", &args->weight, 0, args->x.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "y", &args->y, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "y", &args->y, 0, args->x.shape[0]));
    HB_TRY(hb_check_size(op, "y", &args->y, 1, args->x.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "rstd", &args->rstd, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "rstd", &args->rstd, 0, args->x.shape[0]));
    HB_TRY(hb_check_over(op, "y", &args->y, "x", &args->x));
    if (!(args->eps >= 0))
        return HB_FAIL(HB_EARGUMENT, "rmsnorm_forward: eps (%g) must not be negative", (double)args->eps);
    HB_DISPATCH(context, rmsnorm_forward, args, 0);
}

hb_status hb_rmsnorm_backward_input(struct hb_context *context,
                                    const struct hb_rmsnorm_backward_input_args *args)
{
    const char *op = "rmsnorm_backward_input";
    HB_TRY(hb_check_tensor(context, op, "x", &args->x, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "weight", &args->weight, HB_FLOATS, 1));
    HB_TRY(hb_check_size(op, "weight", &args->weight, 0, args->x.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "rstd", &args->rstd, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "rstd", &args->rstd, 0, args->x.shape[0]));
    HB_TRY(hb_check_tensor(context, op, "dy", &args->dy, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 0, args->x.shape[0]));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 1, args->x.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "dx", &args->dx, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dx", &args->dx, 0, args->x.shape[0]));
    HB_TRY(hb_check_size(op, "dx", &args->dx, 1, args->x.shape[1]));
    HB_TRY(hb_check_over(op, "dx", &args->dx, "dy", &args->dy));
    HB_TRY(hb_check_apart(op, "dx", &args->dx, "x", &args->x));
    HB_DISPATCH(context, rmsnorm_backward_input, args, 0);
}

hb_status hb_rmsnorm_backward_weight(struct hb_context *context,
                                     const struct hb_rmsnorm_backward_weight_args *args)
{
    const char *op = "rmsnorm_backward_weight";
    HB_TRY(hb_check_tensor(context, op, "x", &args->x, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "rstd", &args->rstd, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "rstd", &args->rstd, 0, args->x.shape[0]));
    HB_TRY(hb_check_tensor(context, op, "dy", &args->dy, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 0, args->x.shape[0]));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 1, args->x.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "dweight", &args->dweight, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "dweight", &args->dweight, 0, args->x.shape[1]));
    HB_TRY(hb_check_apart(op, "dweight", &args->dweight, "x", &args->x));
    HB_TRY(hb_check_apart(op, "dweight", &args->dweight, "dy", &args->dy));
    if (args->epilogue == HB_CONTINUE)
        return HB_FAIL(HB_EARGUMENT, "rmsnorm_backward_weight: the epilogue must be STORE or ADD");
    HB_DISPATCH(context, rmsnorm_backward_weight, args, 0);
}
