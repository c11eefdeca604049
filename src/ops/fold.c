#include "ops/fold.h"

#include "ops/check.h"

static hb_status check_flags(const struct hb_context *context, const char *op, const char *argument,
                             const struct hb_tensor *present, const struct hb_tensor *node)
{
    HB_TRY(hb_check_tensor(context, op, argument, present, HB_ONLY(HB_I32), 1));
    return hb_check_size(op, argument, present, 0, node->shape[0]);
}

hb_status hb_fold_merge(struct hb_context *context, const struct hb_fold_merge_args *args)
{
    const char *op = "fold_merge";
    HB_TRY(hb_check_tensor(context, op, "left", &args->left, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, op, "right", &args->right, HB_FLOATS, 0));
    HB_TRY(hb_check_like(op, "right", &args->right, "left", &args->left));
    HB_TRY(hb_check_apart(op, "left", &args->left, "right", &args->right));
    if (hb_given(&args->left_present) != hb_given(&args->right_present))
        return HB_FAIL(HB_EARGUMENT, "fold_merge: both sides must have flags, or neither");
    if (hb_given(&args->left_present)) {
        HB_TRY(check_flags(context, op, "left_present", &args->left_present, &args->left));
        HB_TRY(check_flags(context, op, "right_present", &args->right_present, &args->right));
    }
    HB_DISPATCH(context, fold_merge, args, 0);
}

hb_status hb_fold_close(struct hb_context *context, const struct hb_fold_close_args *args)
{
    const char *op = "fold_close";
    HB_TRY(hb_check_tensor(context, op, "root", &args->root, HB_FLOATS, 0));
    if (hb_given(&args->present))
        HB_TRY(check_flags(context, op, "present", &args->present, &args->root));
    HB_DISPATCH(context, fold_close, args, 0);
}
