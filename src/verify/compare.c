#include "verify/compare.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LAMBDA 4.0

/* Unit roundoff of storage below that of the arithmetic, and its smallest denormal. */
struct storage {
    double unit, denormal;
};

static struct storage storage_of(enum hb_dtype dtype)
{
    switch (dtype) {
    case HB_BF16:
        return (struct storage){0x1p-8, 0x1p-133};
    case HB_F16:
        return (struct storage){0x1p-11, 0x1p-24};
    case HB_F64:
        return (struct storage){0, 0x1p-1074};
    default:
        return (struct storage){0, 0x1p-149};
    }
}

double hb_element_value(enum hb_dtype dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case HB_F64:
        return ((const double *)data)[i];
    case HB_F32:
        return (double)((const float *)data)[i];
    case HB_BF16:
        return (double)hb_f32_of_bf16(((const uint16_t *)data)[i]);
    case HB_F16:
        return (double)hb_f32_of_f16(((const uint16_t *)data)[i]);
    case HB_I64:
        return (double)((const int64_t *)data)[i];
    case HB_I32:
        return (double)((const int32_t *)data)[i];
    default:
        return (double)((const uint8_t *)data)[i];
    }
}

/* Arithmetic's share of the bound, with the rounding to storage on top. An
 * infinity or a NaN must be met exactly. */
static double stored(double arithmetic, double expected, double steps, struct storage s)
{
    if (!isfinite(expected))
        return 0;
    return arithmetic + s.unit * (fabs(expected) + arithmetic) + (steps * 0x1p-149 + s.denormal) / 2 +
           0x1p-53 * fabs(expected);
}

static double error_of(double got, double expected)
{
    if (got == expected || (isnan(got) && isnan(expected)))
        return 0;
    return fabs(got - expected); /* a NaN on one side stays one */
}

struct hb_comparison hb_compare_bound(enum hb_dtype dtype, const void *got, const double *expected,
                                      const float *terms, int64_t count, int64_t steps)
{
    struct storage s = storage_of(dtype);
    double n = (double)steps, u = dtype == HB_F64 ? 0x1p-53 : 0x1p-24;
    double worst_factor = n * u / (1 - n * u), factor = fmin(worst_factor, LAMBDA * sqrt(n) * u);
    struct hb_comparison c = {.first = -1};
    for (int64_t i = 0; i < count; i++) {
        double value = hb_element_value(dtype, got, i), error = error_of(value, expected[i]);
        double gate = stored(factor * (double)terms[i], expected[i], n, s);
        double worst = stored(worst_factor * (double)terms[i], expected[i], n, s);
        double share = isnan(error) ? INFINITY : error == 0 ? 0 : error / gate;
        if (share > c.share) {
            c.share = share;
            c.at = i;
        }
        if (!(error <= gate) && c.first < 0) {
            c.first = i;
            c.got = value;
            c.error = error;
            c.bound = gate;
        }
        c.worst = fmax(c.worst, isnan(error) ? INFINITY : error == 0 ? 0 : error / worst);
    }
    return c;
}

static bool is_nan(enum hb_dtype dtype, const void *data, int64_t i)
{
    return dtype <= HB_F16 && isnan(hb_element_value(dtype, data, i));
}

int64_t hb_compare_bits(enum hb_dtype dtype, const void *a, const void *b, int64_t count)
{
    size_t size = hb_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++) {
        size_t at = (size_t)i * size;
        if (memcmp((const char *)a + at, (const char *)b + at, size) != 0 &&
            !(is_nan(dtype, a, i) && is_nan(dtype, b, i)))
            return i;
    }
    return -1;
}
