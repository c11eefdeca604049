#include "gpu/attention_fast.h"

/* No tensor cores: never asked for anything. */
int HB_GPU(fast_type)(const struct attention &, const struct array *)
{
    return HB_F32;
}

hb_status HB_GPU(fast_forward)(struct hb_context *, const struct forward_call &, int64_t, int)
{
    return HB_FAIL(HB_EINTERNAL, HB_GPU_NAME ": no tensor cores");
}

hb_status HB_GPU(fast_dq)(struct hb_context *, const struct backward_call &, int)
{
    return HB_FAIL(HB_EINTERNAL, HB_GPU_NAME ": no tensor cores");
}

hb_status HB_GPU(fast_dkdv)(struct hb_context *, const struct backward_call &, dim3, int, int)
{
    return HB_FAIL(HB_EINTERNAL, HB_GPU_NAME ": no tensor cores");
}
