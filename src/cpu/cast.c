#include "ops/cast.h"

#include <string.h>

#include "cpu/cpu.h"
#include "cpu/row.h"

/* Every cast goes through a block of fp32 in L1, so that n types need 2 n loops
 * and not n^2: widening to fp32 is exact, fp64 to a 16-bit type is defined as
 * two roundings. Only fp64 to fp64 must not pass here, and is a copy. */
enum { BLOCK = 1024 };

/* The conversions of core/dtype.h without branches, so that they vectorise. */
static inline float f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    uint32_t normal = (magnitude << 13) + (112u << 23);
    uint32_t denormal = hb_bits_of_f32((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t bits = magnitude < 0x0400u ? denormal : normal;
    bits = magnitude >= 0x7c00u ? 0x7f800000u : bits;
    bits = magnitude > 0x7c00u ? 0x7fc00000u : sign | bits;
    return hb_f32_of_bits(bits);
}

static inline uint16_t f16_of_f32(float x)
{
    uint32_t u = hb_bits_of_f32(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    uint32_t normal = magnitude - 0x38000000u;
    normal = (normal + 0xfffu + ((normal >> 13) & 1u)) >> 13;
    /* Below 2^-14 the unit of fp16 is 2^-24, which is that of fp32 in [1/2, 1): the addition rounds. */
    uint32_t denormal = hb_bits_of_f32(hb_f32_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t h = magnitude < 0x38800000u ? denormal : normal;
    h = magnitude >= 0x47800000u ? 0x7c00u : h;
    return (uint16_t)(magnitude > 0x7f800000u ? 0x7e00u : sign | h);
}

static void widen(enum hb_dtype dtype, const void *from, int64_t begin, int64_t n, float *restrict to)
{
    if (dtype == HB_F64) {
        const double *x = (const double *)from + begin;
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)x[i];
    } else if (dtype == HB_BF16) {
        const uint16_t *x = (const uint16_t *)from + begin;
        for (int64_t i = 0; i < n; i++)
            to[i] = hb_f32_of_bf16(x[i]);
    } else {
        const uint16_t *x = (const uint16_t *)from + begin;
        for (int64_t i = 0; i < n; i++)
            to[i] = f32_of_f16(x[i]);
    }
}

static void narrow(enum hb_dtype dtype, const float *restrict from, int64_t n, void *to, int64_t begin)
{
    if (dtype == HB_F64) {
        double *restrict out = (double *)to + begin;
        for (int64_t i = 0; i < n; i++)
            out[i] = (double)from[i];
    } else if (dtype == HB_BF16) {
        uint16_t *restrict out = (uint16_t *)to + begin;
        for (int64_t i = 0; i < n; i++)
            out[i] = hb_bf16_of_f32(from[i]);
    } else if (dtype == HB_F16) {
        uint16_t *restrict out = (uint16_t *)to + begin;
        for (int64_t i = 0; i < n; i++)
            out[i] = f16_of_f32(from[i]);
    } else {
        memcpy((float *)to + begin, from, (size_t)n * sizeof *from);
    }
}

static void cast_block(const struct hb_cast_args *args, int64_t begin, int64_t n)
{
    float block[BLOCK];
    if (args->x.dtype == HB_F64 && args->out.dtype == HB_F64) {
        memcpy((double *)args->out.data + begin, (const double *)args->x.data + begin,
               (size_t)n * sizeof(double));
        return;
    }
    const float *wide = block;
    if (args->x.dtype == HB_F32)
        wide = (const float *)args->x.data + begin;
    else
        widen(args->x.dtype, args->x.data, begin, n, block);
    narrow(args->out.dtype, wide, n, args->out.data, begin);
}

hb_status HB_CPU(cast)(struct hb_context *context, const struct hb_cast_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < (n + BLOCK - 1) / BLOCK; block++) {
        int64_t begin = block * BLOCK;
        cast_block(args, begin, hb_at_most(n - begin, BLOCK));
    }
    return HB_OK;
}
