/* numerics: fast where there are no tensor cores and no vendor library. */
#include "gpu/fast.h"

bool HB_GPU(fast_takes)(const struct hb_product_args *)
{
    return true;
}

extern "C" hb_status HB_GPU(fast_product)(struct hb_context *, const struct hb_product_args *)
{
    return HB_FAIL(HB_EUNSUPPORTED,
                   "product: numerics: fast needs a device; " HB_GPU_NAME " has canonical numerics only");
}

extern "C" hb_status HB_GPU(fast_start)(struct hb_context *)
{
    return HB_OK;
}
