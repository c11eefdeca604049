#include "ops/clip.h"

#include "ops/check.h"

hb_status hb_clip(struct hb_context *context, const struct hb_clip_args *args)
{
    HB_TRY(hb_check_tensor(context, "clip", "squares", &args->squares, HB_ONLY(HB_F64), 1));
    if (hb_given(&args->order)) {
        HB_TRY(hb_check_tensor(context, "clip", "order", &args->order, HB_ONLY(HB_I32), 1));
        HB_TRY(hb_check_size("clip", "order", &args->order, 0, args->squares.shape[0]));
    }
    HB_TRY(hb_check_tensor(context, "clip", "norm", &args->norm, HB_ONLY(HB_F64), 1));
    HB_TRY(hb_check_size("clip", "norm", &args->norm, 0, 1));
    HB_TRY(hb_check_tensor(context, "clip", "coef", &args->coef, HB_REAL, 1));
    HB_TRY(hb_check_size("clip", "coef", &args->coef, 0, 1));
    if (args->max_norm != args->max_norm)
        return HB_FAIL(HB_EARGUMENT, "clip: max_norm is NaN, must be a number (0 or below: no clipping)");
    HB_DISPATCH(context, clip, args, 0);
}
