/* exp, log, tanh, erf and sigmoid in fp32, our own, so that every compiler,
 * processor and device gives the same bits.
 *
 * Each operator below is one IEEE rounding and each fmaf is written out
 * (build with -ffp-contract=off). There are no branches and no tables, only
 * selects, so that a loop over any of these vectorises (gcc needs
 * -fno-trapping-math, which changes no bit). Integers come from clamped
 * floats by adding 1.5 * 2^23, which rounds to nearest even on any machine.
 *
 * Largest errors over all 2^32 inputs, denormal results included, in units in
 * the last place of the result (tests/core/math.c asserts them):
 *
 *     hb_expf  0.90    hb_tanhf 1.40    hb_sigmoidf 2.45
 *     hb_logf  0.92    hb_erff  1.07
 *
 * NaN gives NaN. Results that are denormal are right, and overflow and
 * underflow end at infinity and +0. The functions are odd where mathematics
 * says so, signed zeros included.
 *
 * Polynomials are minimax fits of ours (Remez exchange, coefficients rounded
 * from the lowest power up, the rest fitted again after each). */
#ifndef HB_CORE_MATH_H
#define HB_CORE_MATH_H

#include <float.h>
#include <math.h>

#include "core/dtype.h"

#if defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__)
#error "fast-math changes results: remove -ffast-math or -Ofast (numerics are a contract here)"
#endif
#if FLT_EVAL_METHOD != 0
#error "float arithmetic must be done in float: on 32-bit x86 use -msse2 -mfpmath=sse"
#endif

/* e^x. With n = round(x / ln 2) and r = x - n ln 2: 2^n (1 + r + r^2 P(r)). */
HB_EVERYWHERE float hb_expf(float x)
{
    /* Beyond these bounds the result is infinity or 0 for sure. The comparisons let NaN through. */
    float c = x > 89.0f ? 89.0f : x;
    c = x < -104.0f ? -104.0f : c; /* of x, not of c: one step less to wait for */
    float shifted = fmaf(c, 0x1.715476p+0f, 0x1.8p+23f);
    float n = shifted - 0x1.8p+23f;
    float r = fmaf(n, -0x1.62e43p-1f, c); /* exact */
    r = fmaf(n, 0x1.05c61p-29f, r);
    float p = 0x1.6a2212p-10f;
    p = fmaf(p, r, 0x1.123d1cp-7f);
    p = fmaf(p, r, 0x1.5558cp-5f);
    p = fmaf(p, r, 0x1.55548cp-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    /* n = -150 .. 128 lies in the low bits of `shifted`. 2^n can be outside of fp32 while the result
     * is inside, so it is applied in two halves; only the second product can round. */
    uint32_t scale = hb_bits_of_f32(shifted) << 23;
    uint32_t half = (uint32_t)((int32_t)scale >> 1) & 0xff800000u;
    p *= hb_f32_of_bits(half + 0x3f800000u);
    return p * hb_f32_of_bits(scale - half + 0x3f800000u);
}

/* ln x; 0 gives -infinity, negative numbers NaN. With x = 2^e m, 2/3 <= m < 4/3 and
 * f = m - 1: e ln 2 + f + f^2 (-1/2 + f P(f)). */
HB_EVERYWHERE float hb_logf(float x)
{
    float lifted = x < 0x1p-126f ? x * 0x1p+23f : x; /* denormals */
    float lift = x < 0x1p-126f ? -23.0f : 0.0f;
    uint32_t u = hb_bits_of_f32(lifted);
    uint32_t exponent = (u - 0x3f2aaaabu) & 0xff800000u; /* e * 2^23 */
    float f = hb_f32_of_bits(u - exponent) - 1.0f;
    float e = fmaf((float)(int32_t)exponent, 0x1p-23f, lift); /* exact */
    float p = -0x1.1b3a9ep-3f;
    p = fmaf(p, f, 0x1.1f7846p-3f);
    p = fmaf(p, f, -0x1.ecebp-4f);
    p = fmaf(p, f, 0x1.1eb21ap-3f);
    p = fmaf(p, f, -0x1.55bb2ep-3f);
    p = fmaf(p, f, 0x1.99d13ep-3f);
    p = fmaf(p, f, -0x1.fffedep-3f);
    p = fmaf(p, f, 0x1.555506p-2f);
    p = fmaf(p, f, -0.5f);
    p = fmaf(p, f * f, f);
    p = fmaf(e, 0x1.62e43p-1f, p);
    float infinity = hb_f32_of_bits(0x7f800000u);
    float result = x < infinity ? p : x; /* infinity and NaN */
    result = x == 0.0f ? -infinity : result;
    return x < 0.0f ? hb_f32_of_bits(0x7fc00000u) : result;
}

/* 1 / (1 + e^-x), as e^x / (1 + e^x) below 0, where the first form would overflow too soon. */
HB_EVERYWHERE float hb_sigmoidf(float x)
{
    float e = hb_expf(hb_f32_of_bits(hb_bits_of_f32(x) | 0x80000000u)); /* e^-|x| */
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* tanh x: x + x^3 P(x^2) up to 5/8, 1 - 2 / (e^2|x| + 1) from there. */
HB_EVERYWHERE float hb_tanhf(float x)
{
    uint32_t sign = hb_bits_of_f32(x) & 0x80000000u;
    float a = hb_f32_of_bits(hb_bits_of_f32(x) ^ sign);
    float z = x * x;
    float p = -0x1.751e5p-8f;
    p = fmaf(p, z, 0x1.51fa38p-6f);
    p = fmaf(p, z, -0x1.b835a4p-5f);
    p = fmaf(p, z, 0x1.1106f6p-3f);
    p = fmaf(p, z, -0x1.555532p-2f);
    float near = fmaf(x, p * z, x);
    float far = 1.0f - 2.0f / (hb_expf(a + a) + 1.0f);
    return hb_f32_of_bits(hb_bits_of_f32(a < 0.625f ? near : far) | sign); /* also of -0 */
}

/* erf x: x + x P(x^2) up to 1, 1 - e^Q(|x|) from there; from 4 on it rounds to 1. */
HB_EVERYWHERE float hb_erff(float x)
{
    uint32_t sign = hb_bits_of_f32(x) & 0x80000000u;
    float a = hb_f32_of_bits(hb_bits_of_f32(x) ^ sign);
    float z = x * x;
    float p = 0x1.4771fcp-14f;
    p = fmaf(p, z, -0x1.a3515ep-11f);
    p = fmaf(p, z, 0x1.53f224p-8f);
    p = fmaf(p, z, -0x1.b7f71ap-6f);
    p = fmaf(p, z, 0x1.ce2ce6p-4f);
    p = fmaf(p, z, -0x1.81273ep-2f);
    p = fmaf(p, z, 0x1.06eba8p-3f);
    float near = fmaf(x, p, x);
    float t = a > 4.0f ? 4.0f : a;
    float q = 0x1.86dd1ep-13f;
    q = fmaf(q, t, -0x1.825ad8p-9f);
    q = fmaf(q, t, 0x1.65cb66p-6f);
    q = fmaf(q, t, -0x1.a65336p-4f);
    q = fmaf(q, t, -0x1.46baeep-1f);
    q = fmaf(q, t, -0x1.2088eap+0f);
    q = fmaf(q, t, -0x1.661f4ep-12f);
    float far = 1.0f - hb_expf(q);
    return hb_f32_of_bits(hb_bits_of_f32(a < 1.0f ? near : far) | sign);
}

#endif
