/* e^x of a whole register, with the bits of hb_expf (core/math.h) in every lane.
 *
 * Loops over hb_expf vectorise, but spend a third of their time on 2^n. AVX-512 has
 * an instruction for x 2^n that rounds once, also where the result is denormal or
 * infinite, and so do hb_expf's two products, of which only the second can round. */
#ifndef HB_CPU_EXP_H
#define HB_CPU_EXP_H

#include "core/math.h"
#include "cpu/vec.h"

#if VEC_WIDTH == 16

/* The steps of hb_expf. Minimum and maximum of a constant and NaN, in this order, are the NaN. */
static inline vec vec_exp(vec x)
{
    const vec shift = vec_set1(0x1.8p+23f);
    x = _mm512_max_ps(vec_set1(-104.0f), _mm512_min_ps(vec_set1(89.0f), x));
    vec n = vec_sub(vec_fma(x, vec_set1(0x1.715476p+0f), shift), shift);
    vec r = vec_fma(n, vec_set1(0x1.05c61p-29f), vec_fma(n, vec_set1(-0x1.62e43p-1f), x));
    vec p = vec_fma(vec_set1(0x1.6a2212p-10f), r, vec_set1(0x1.123d1cp-7f));
    p = vec_fma(p, r, vec_set1(0x1.5558cp-5f));
    p = vec_fma(p, r, vec_set1(0x1.55548cp-3f));
    p = vec_fma(p, r, vec_set1(0x1.fffffcp-2f));
    p = vec_fma(p, r, vec_set1(1.0f));
    p = vec_fma(p, r, vec_set1(1.0f));
    return _mm512_scalef_ps(p, n);
}

#else

static inline vec vec_exp(vec x)
{
    float lane[VEC_WIDTH];
    vec_store(lane, x);
    for (int i = 0; i < VEC_WIDTH; i++)
        lane[i] = hb_expf(lane[i]);
    return vec_load(lane);
}

#endif

#endif
