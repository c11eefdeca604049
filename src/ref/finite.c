#include "ops/finite.h"

#include "ref/extremes.h"

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

void HB_REF(find_extremes)(const struct hb_tensor *t, double bound, struct hb_tensor found,
                           struct hb_tensor extremes)
{
    int64_t n = hb_tensor_count(t), overflow = 0, underflow = 0, *counts = extremes.data;
    for (int64_t i = 0; i < n; i++) {
        real x = load(t, i), size = x < 0 ? -x : x;
        overflow += !is_finite(t, i);
        underflow += size > 0 && size < (real)bound;
    }
    if (found.data && overflow)
        *(int32_t *)found.data = 1;
    if (counts) {
        counts[0] += overflow;
        counts[1] += underflow;
    }
}

hb_status HB_REF(finite)(struct hb_context *context, const struct hb_finite_args *args)
{
    (void)context;
    HB_REF(find_extremes)(&args->x, hb_underflow_bound(args->x.dtype), args->found, args->extremes);
    return HB_OK;
}
