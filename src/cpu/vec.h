/* A register of VEC_WIDTH floats at this file's instruction-set level.
 *
 * For the few kernels whose registers must be laid out by hand (product,
 * attention); everything else is plain C that the compiler vectorises. Each
 * function is the IEEE operation per lane, rounded once, so a lane has the bits
 * of the scalar expression: lanes may be chosen freely, orders of sums may not.
 * The base level is 4 plain floats and runs anywhere. */
#ifndef HB_CPU_VEC_H
#define HB_CPU_VEC_H

#include <math.h>

#include "cpu/isa.h"

#if defined(__AVX512F__)

#include <immintrin.h>

#define VEC_WIDTH 16
typedef __m512 vec;

/* No alignment is needed. */
static inline vec vec_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

static inline void vec_store(float *to, vec a)
{
    _mm512_storeu_ps(to, a);
}

/* Stores past the caches; `to` is aligned to the width. The thread that
 * streamed must call vec_stream_end before others may read. */
static inline void vec_stream(float *to, vec a)
{
    _mm512_stream_ps(to, a);
}

static inline void vec_stream_end(void)
{
    _mm_sfence();
}

static inline vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

/* a b + c, one rounding. */
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

/* a > b ? a : b per lane, at every level: where either is NaN, and for zeros of
 * unlike sign, the result is b. So a NaN in a is lost and a NaN in b is kept. */
static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

#define VEC_WIDTH 8
typedef __m256 vec;

static inline vec vec_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

static inline void vec_store(float *to, vec a)
{
    _mm256_storeu_ps(to, a);
}

static inline void vec_stream(float *to, vec a)
{
    _mm256_stream_ps(to, a);
}

static inline void vec_stream_end(void)
{
    _mm_sfence();
}

static inline vec vec_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec vec_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

#else

#define VEC_WIDTH 4
typedef struct {
    float lane[4];
} vec;

static inline vec vec_load(const float *from)
{
    return (vec){{from[0], from[1], from[2], from[3]}};
}

static inline void vec_store(float *to, vec a)
{
    for (int l = 0; l < 4; l++)
        to[l] = a.lane[l];
}

static inline void vec_stream(float *to, vec a)
{
    vec_store(to, a);
}

static inline void vec_stream_end(void)
{
}

static inline vec vec_set1(float x)
{
    return (vec){{x, x, x, x}};
}

static inline vec vec_zero(void)
{
    return vec_set1(0.0f);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    for (int l = 0; l < 4; l++)
        c.lane[l] = fmaf(a.lane[l], b.lane[l], c.lane[l]);
    return c;
}

static inline vec vec_add(vec a, vec b)
{
    for (int l = 0; l < 4; l++)
        a.lane[l] = a.lane[l] + b.lane[l];
    return a;
}

static inline vec vec_sub(vec a, vec b)
{
    for (int l = 0; l < 4; l++)
        a.lane[l] = a.lane[l] - b.lane[l];
    return a;
}

static inline vec vec_mul(vec a, vec b)
{
    for (int l = 0; l < 4; l++)
        a.lane[l] = a.lane[l] * b.lane[l];
    return a;
}

static inline vec vec_div(vec a, vec b)
{
    for (int l = 0; l < 4; l++)
        a.lane[l] = a.lane[l] / b.lane[l];
    return a;
}

static inline vec vec_max(vec a, vec b)
{
    for (int l = 0; l < 4; l++)
        b.lane[l] = a.lane[l] > b.lane[l] ? a.lane[l] : b.lane[l];
    return b;
}

#endif

#endif
