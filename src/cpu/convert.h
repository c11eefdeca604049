/* Rows in 16 bits: widened to fp32 before a kernel, rounded after it, so that
 * every kernel is written once. Where a tensor is fp32 nothing is copied: the
 * kernel works on the memory itself.
 *
 *   const float *x = hb_read(&args->x, begin, n, buffer);    the memory, or a widened copy
 *   float *y = hb_place(&args->y, begin, other_buffer);      the memory, or room
 *   ... kernel from x to y ...
 *   hb_write(&args->y, begin, n, y);                         rounds from the room
 *
 * A kernel that may write over its input reads all of a row, or of a block of
 * elements, before hb_write. The conversions are those of core/dtype.h. */
#ifndef HB_CPU_CONVERT_H
#define HB_CPU_CONVERT_H

#include <string.h>

#include "cpu/isa.h"
#include "ops/backend.h"
#include "ops/host.h"

/* Elements that pass through stack buffers at once. */
enum { HB_BLOCK = 1024 };

/* The conversions of fp16 without branches, so that they vectorise. */
static inline float hb_wide_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    uint32_t normal = (magnitude << 13) + (112u << 23);
    uint32_t denormal = hb_bits_of_f32((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t bits = magnitude < 0x0400u ? denormal : normal;
    bits = magnitude >= 0x7c00u ? 0x7f800000u : bits;
    bits = magnitude > 0x7c00u ? 0x7fc00000u : sign | bits;
    return hb_f32_of_bits(bits);
}

static inline uint16_t hb_narrow_f16(float x)
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

/* Elements [begin, begin + n) of a fp32 or 16-bit array, widened. */
static inline void hb_widen(enum hb_dtype dtype, const void *from, int64_t begin, int64_t n,
                            float *restrict to)
{
    const uint16_t *restrict x = (const uint16_t *)from + begin;
    if (dtype == HB_F32)
        memcpy(to, (const float *)from + begin, (size_t)n * sizeof *to);
    else if (dtype == HB_BF16)
        for (int64_t i = 0; i < n; i++)
            to[i] = hb_f32_of_bf16(x[i]);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = hb_wide_f16(x[i]);
}

/* The other way, rounded to nearest even. */
static inline void hb_narrow(enum hb_dtype dtype, const float *restrict from, int64_t n, void *to,
                             int64_t begin)
{
    uint16_t *restrict out = (uint16_t *)to + begin;
    if (dtype == HB_F32)
        memcpy((float *)to + begin, from, (size_t)n * sizeof *from);
    else if (dtype == HB_BF16)
        for (int64_t i = 0; i < n; i++)
            out[i] = hb_bf16_of_f32(from[i]);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] = hb_narrow_f16(from[i]);
}

static inline const float *hb_read(const struct hb_tensor *t, int64_t begin, int64_t n, float *buffer)
{
    if (t->dtype == HB_F32)
        return (const float *)t->data + begin;
    hb_widen(t->dtype, t->data, begin, n, buffer);
    return buffer;
}

static inline float *hb_place(const struct hb_tensor *t, int64_t begin, float *buffer)
{
    return t->dtype == HB_F32 ? (float *)t->data + begin : buffer;
}

static inline void hb_write(const struct hb_tensor *t, int64_t begin, int64_t n, const float *from)
{
    if (t->dtype != HB_F32)
        hb_narrow(t->dtype, from, n, t->data, begin);
}

/* out[out_begin + i] = x[begin + i] for i < n, in the type of out. */
static inline void hb_move(const struct hb_tensor *x, int64_t begin, const struct hb_tensor *out,
                           int64_t out_begin, int64_t n)
{
    float buffer[HB_BLOCK];
    size_t size = hb_dtype_size(x->dtype);
    if (x->dtype == out->dtype) {
        memcpy((char *)out->data + (size_t)out_begin * size, (const char *)x->data + (size_t)begin * size,
               (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i += HB_BLOCK) {
        int64_t count = n - i < HB_BLOCK ? n - i : HB_BLOCK;
        hb_narrow(out->dtype, hb_read(x, begin + i, count, buffer), count, out->data, out_begin + i);
    }
}

/* Rows that are longer than a block: for each thread `count` buffers of `width`
 * floats, thread t's at buffers + t stride. */
static inline hb_status hb_row_buffers(struct hb_context *context, int threads, int count, int64_t width,
                                       float **buffers, int64_t *stride)
{
    void *workspace;
    *stride = (count * width + 31) / 16 * 16;
    HB_TRY(hb_host_workspace(context, (size_t)(threads * *stride) * sizeof(float), &workspace));
    *buffers = workspace;
    return HB_OK;
}

#endif
