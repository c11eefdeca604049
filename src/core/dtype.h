/* Storage types and the conversions between them.
 *
 * All arithmetic is fp32 (fp64 in the double form of `ref`); bf16 and fp16
 * are storage only. Conversions to them round to nearest, ties to even, keep
 * denormals, and turn every NaN into one quiet NaN. They are integer code, so
 * that no processor flag and no instruction set can change a bit. */
#ifndef HB_CORE_DTYPE_H
#define HB_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum hb_dtype { HB_F64, HB_F32, HB_BF16, HB_F16, HB_I64, HB_I32, HB_U8, HB_DTYPE_COUNT };

/* Bytes of one element. */
size_t hb_dtype_size(enum hb_dtype dtype);

/* "f64", "f32", "bf16", "f16", "i64", "i32", "u8". */
const char *hb_dtype_name(enum hb_dtype dtype);

/* A number of this type below this bound may have lost digits to underflow. fp16 is storage only: below its
 * least normal number it has fewer digits, but it was computed in fp32. The others have the range of the
 * arithmetic: a sum whose own last digit is below the least normal number has terms that lost theirs. */
static inline double hb_underflow_bound(enum hb_dtype dtype)
{
    return dtype == HB_F64 ? 0x1p-970 : dtype == HB_F16 ? 0x1p-14 : 0x1p-102;
}

/* Also for kernels. */
#ifdef __CUDACC__
#define HB_EVERYWHERE static __host__ __device__ inline
#else
#define HB_EVERYWHERE static inline
#endif

HB_EVERYWHERE uint32_t hb_bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

HB_EVERYWHERE float hb_f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

HB_EVERYWHERE float hb_f32_of_bf16(uint16_t h)
{
    return hb_f32_of_bits((uint32_t)h << 16);
}

HB_EVERYWHERE uint16_t hb_bf16_of_f32(float x)
{
    uint32_t u = hb_bits_of_f32(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fc0;
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

HB_EVERYWHERE float hb_f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 31) /* infinity or NaN */
        return hb_f32_of_bits(mantissa ? 0x7fc00000u : sign | 0x7f800000u);
    if (exponent == 0) { /* zero or denormal: mantissa * 2^-24 is exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return hb_f32_of_bits(sign | hb_bits_of_f32(magnitude));
    }
    return hb_f32_of_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

HB_EVERYWHERE uint16_t hb_f16_of_f32(float x)
{
    uint32_t u = hb_bits_of_f32(x);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return 0x7e00;
    if (magnitude >= 0x47800000u) /* 65536 and above, infinity */
        return sign | 0x7c00u;
    if (magnitude < 0x33000000u) /* below 2^-25: rounds to zero; 2^-25 itself ties to even, zero */
        return sign;
    if (magnitude < 0x38800000u) { /* below 2^-14: denormal result */
        uint32_t shift = 126 - (magnitude >> 23); /* 14 .. 24 */
        uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        uint32_t kept = mantissa >> shift;
        uint32_t rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
        kept += rest > half || (rest == half && (kept & 1u));
        return sign | (uint16_t)kept;
    }
    uint32_t rebased = magnitude - 0x38000000u;
    rebased += 0xfffu + ((rebased >> 13) & 1u);
    return sign | (uint16_t)(rebased >> 13);
}

/* Stochastic rounding (Gupta et al. 2015, arXiv 1502.02551, section 3): of its
 * two neighbours in the 16-bit type a number becomes the one of larger magnitude
 * with the probability of its distance from the other, as the upper bits of
 * `random` say: that many of them as the mantissa loses are added below the last
 * bit that stays, and what then lies below it is cut off. Numbers of the type
 * stay, infinity stands behind the largest, NaN becomes the one quiet NaN. */
HB_EVERYWHERE uint16_t hb_bf16_of_f32_random(float x, uint32_t random)
{
    uint32_t u = hb_bits_of_f32(x);
    if ((u & 0x7fffffffu) >= 0x7f800000u)
        return hb_bf16_of_f32(x);
    return (uint16_t)((u + (random >> 16)) >> 16);
}

HB_EVERYWHERE uint16_t hb_f16_of_f32_random(float x, uint32_t random)
{
    uint32_t u = hb_bits_of_f32(x);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude >= 0x47800000u) /* 65536 and above, infinity, NaN */
        return hb_f16_of_f32(x);
    if (magnitude < 0x23000000u) /* below 2^-57: 32 bits cannot express the probability of 2^-24 */
        return sign;
    if (magnitude < 0x38800000u) { /* below 2^-14: denormal result */
        uint32_t shift = 126 - (magnitude >> 23); /* 14 .. 56 */
        uint64_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        uint64_t below = ((uint64_t)random << 32) >> (64 - shift);
        return sign | (uint16_t)((mantissa + below) >> shift);
    }
    return sign | (uint16_t)((magnitude - 0x38000000u + (random >> 19)) >> 13);
}

#endif
