#include "ops/add.h"

#include "ops/check.h"

hb_status hb_add(struct hb_context *context, const struct hb_add_args *args)
{
    uint32_t dtypes = args->a.dtype == HB_I64 ? HB_ONLY(HB_I64) : HB_FLOATS;
    HB_TRY(hb_check_tensor(context, "add", "a", &args->a, dtypes, 0));
    HB_TRY(hb_check_tensor(context, "add", "b", &args->b, dtypes, 0));
    HB_TRY(hb_check_shape("add", "b", &args->b, "a", &args->a));
    HB_TRY(hb_check_tensor(context, "add", "out", &args->out, dtypes, 0));
    HB_TRY(hb_check_shape("add", "out", &args->out, "a", &args->a));
    HB_TRY(hb_check_over("add", "out", &args->out, "a", &args->a));
    HB_TRY(hb_check_over("add", "out", &args->out, "b", &args->b));
    HB_DISPATCH(context, add, args, 0);
}
