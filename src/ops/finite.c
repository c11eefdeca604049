#include "ops/finite.h"

#include "ops/check.h"

hb_status hb_finite(struct hb_context *context, const struct hb_finite_args *args)
{
    HB_TRY(hb_check_tensor(context, "finite", "x", &args->x, HB_FLOATS, 0));
    if (hb_given(&args->found) || !hb_given(&args->extremes)) {
        HB_TRY(hb_check_tensor(context, "finite", "found", &args->found, HB_ONLY(HB_I32), 1));
        HB_TRY(hb_check_size("finite", "found", &args->found, 0, 1));
    }
    if (hb_given(&args->extremes)) {
        HB_TRY(hb_check_tensor(context, "finite", "extremes", &args->extremes, HB_ONLY(HB_I64), 1));
        HB_TRY(hb_check_size("finite", "extremes", &args->extremes, 0, 2));
    }
    HB_DISPATCH(context, finite, args, 0);
}
