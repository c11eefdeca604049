#include "ops/sum.h"

#include "ops/check.h"

hb_status hb_sum(struct hb_context *context, const struct hb_sum_args *args)
{
    HB_TRY(hb_check_tensor(context, "sum", "x", &args->x, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, "sum", "out", &args->out, HB_ONLY(HB_F64), 1));
    int64_t groups = args->out.shape[0];
    if (groups < 1 || hb_tensor_count(&args->x) % groups != 0)
        return HB_FAIL(HB_ESHAPE, "sum: x (%lld elements) must divide into the %lld tensors of out",
                       (long long)hb_tensor_count(&args->x), (long long)groups);
    if (hb_given(&args->found)) {
        HB_TRY(hb_check_tensor(context, "sum", "found", &args->found, HB_ONLY(HB_I32), 1));
        HB_TRY(hb_check_size("sum", "found", &args->found, 0, 1));
    }
    if (hb_given(&args->extremes)) {
        HB_TRY(hb_check_tensor(context, "sum", "extremes", &args->extremes, HB_ONLY(HB_I64), 1));
        HB_TRY(hb_check_size("sum", "extremes", &args->extremes, 0, 2));
    }
    HB_DISPATCH(context, sum, args, 0);
}
