#include "core/float_environment.h"

hb_status hb_float_environment_check(const char *who)
{
    /* volatile: the compiler must leave these to the processor. */
    volatile float one = 1, half_step = 0x1p-24f, more = 0x1.8p-24f, normal = 0x1p-126f, half = 0.5f;
    volatile float tie = one + half_step, above = one + more, below = -one - half_step;
    if (tie != 1 || above != 0x1.000002p+0f || below != -1)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: this thread does not round to nearest even; something called fesetround", who);
    volatile float denormal = normal * half, doubled = denormal / half;
    if (denormal == 0 || doubled != 0x1p-126f)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: denormal numbers are flushed to zero; rebuild without -Ofast and -ffast-math",
                       who);
    return HB_OK;
}
