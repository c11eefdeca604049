#include "ops/rope.h"

#include "ops/check.h"

hb_status hb_rope(struct hb_context *context, const struct hb_rope_args *args)
{
    HB_TRY(hb_check_tensor(context, "rope", "x", &args->x, HB_FLOATS, 3));
    HB_TRY(hb_check_tensor(context, "rope", "positions", &args->positions, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size("rope", "positions", &args->positions, 0, args->x.shape[0]));
    if (args->x.shape[2] % 2 != 0)
        return HB_FAIL(HB_ESHAPE, "rope: the head width (%lld) must be even: elements turn in pairs",
                       (long long)args->x.shape[2]);
    HB_TRY(hb_check_tensor(context, "rope", "cosine", &args->cosine, HB_REAL, 2));
    HB_TRY(hb_check_size("rope", "cosine", &args->cosine, 1, args->x.shape[2] / 2));
    HB_TRY(hb_check_tensor(context, "rope", "sine", &args->sine, HB_REAL, 2));
    HB_TRY(hb_check_like("rope", "sine", &args->sine, "cosine", &args->cosine));
    HB_TRY(hb_check_tensor(context, "rope", "y", &args->y, HB_FLOATS, 3));
    HB_TRY(hb_check_shape("rope", "y", &args->y, "x", &args->x));
    HB_TRY(hb_check_over("rope", "y", &args->y, "x", &args->x));
    HB_DISPATCH(context, rope, args, 0);
}
