#include "ops/cast.h"

#include "ops/check.h"

/* Every backend casts between all of them, whatever it computes with. */
#define FLOATS (HB_STORAGE(HB_F64) | HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16))

hb_status hb_cast(struct hb_context *context, const struct hb_cast_args *args)
{
    HB_TRY(hb_check_tensor(context, "cast", "x", &args->x, FLOATS, 0));
    HB_TRY(hb_check_tensor(context, "cast", "out", &args->out, FLOATS, 0));
    if (!hb_tensor_same_shape(&args->x, &args->out))
        return HB_FAIL(HB_ESHAPE, "cast: x and out must have the same shape");
    HB_TRY(hb_check_apart("cast", "x", &args->x, "out", &args->out));
    HB_DISPATCH(context, cast, args, 0);
}
