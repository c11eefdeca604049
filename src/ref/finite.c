#include "ops/finite.h"

#include "ref/ref.h"

/* All exponent bits set: an infinity or a NaN. On bits, so that no compiler can think it away. */
static bool is_finite(const struct hb_tensor *t, int64_t i)
{
    uint64_t wide;
    switch (t->dtype) {
    case HB_F64:
        memcpy(&wide, (const double *)t->data + i, sizeof wide);
        return (~wide & 0x7ff0000000000000u) != 0;
    case HB_BF16:
        return (~((const uint16_t *)t->data)[i] & 0x7f80) != 0;
    case HB_F16:
        return (~((const uint16_t *)t->data)[i] & 0x7c00) != 0;
    default:
        return (~hb_bits_of_f32(((const float *)t->data)[i]) & 0x7f800000u) != 0;
    }
}

hb_status HB_REF(finite)(struct hb_context *context, const struct hb_finite_args *args)
{
    (void)context;
    int64_t n = hb_tensor_count(&args->x), overflow = 0, underflow = 0;
    real bound = (real)hb_underflow_bound(args->x.dtype);
    for (int64_t i = 0; i < n; i++) {
        real x = load(&args->x, i), size = x < 0 ? -x : x;
        overflow += !is_finite(&args->x, i);
        underflow += size > 0 && size < bound;
    }
    if (args->found.data && overflow)
        *(int32_t *)args->found.data = 1;
    int64_t *extremes = args->extremes.data;
    if (extremes) {
        extremes[0] += overflow;
        extremes[1] += underflow;
    }
    return HB_OK;
}
