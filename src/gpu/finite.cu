#include "gpu/gpu.h"

extern "C" {
#include "ops/finite.h"
}

/* All exponent bits set: an infinity or a NaN. */
static __device__ inline bool is_finite(struct array x, int64_t i)
{
    switch (x.dtype) {
    case HB_BF16:
        return (~static_cast<const uint16_t *>(x.data)[i] & 0x7f80) != 0;
    case HB_F16:
        return (~static_cast<const uint16_t *>(x.data)[i] & 0x7c00) != 0;
    default:
        return (~static_cast<const uint32_t *>(x.data)[i] & 0x7f800000u) != 0;
    }
}

static __global__ void look(struct array x, int64_t n, int32_t *found, float bound, int64_t *extremes)
{
    int overflow = 0, underflow = 0;
    for (int64_t i = first_element(); i < n; i += element_stride()) {
        float value = load(x, i), size = value < 0 ? -value : value;
        overflow += !is_finite(x, i);
        underflow += size > 0 && size < bound;
    }
    if (overflow && found)
        atomicOr(found, 1);
    add_extremes(extremes, overflow, underflow);
}

extern "C" hb_status HB_GPU(finite)(struct hb_context *context, const struct hb_finite_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    /* Few blocks, each over many elements: most of them end without having anything to say. */
    return launch("finite", look, blocks_for(n, 256 * 16), 256, 0, gpu_stream_of(context), array_of(&args->x),
                  n, i32_of(&args->found), (float)hb_underflow_bound(args->x.dtype), i64_of(&args->extremes));
}
