#include "ops/column_sum.h"

#include "ops/check.h"

hb_status hb_column_sum(struct hb_context *context, const struct hb_column_sum_args *args)
{
    HB_TRY(hb_check_tensor(context, "column_sum", "x", &args->x, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, "column_sum", "out", &args->out, HB_REAL, 1));
    HB_TRY(hb_check_size("column_sum", "out", &args->out, 0, args->x.shape[1]));
    if (args->epilogue == HB_CONTINUE)
        return HB_FAIL(HB_EARGUMENT, "column_sum: the epilogue must be STORE or ADD");
    HB_TRY(hb_check_apart("column_sum", "out", &args->out, "x", &args->x));
    HB_DISPATCH(context, column_sum, args, 0);
}
