/* Kernels that wait for memory and for little else: a thread reads several of its
 * elements before it uses the first, so that enough is on its way to keep memory
 * busy (one at a time, in 16 bits, would be a quarter of what a device can do).
 * Its elements are APART, so that neighbouring threads read neighbours. That is a
 * constant, an end is compared in 32 bits, and a strip asks for its storage type
 * once: few instructions a byte, or a device would wait for those.
 *
 *     for (auto s = strip_of_thread(n); s.has(0); s.next()) {
 *         float x[AT_ONCE];
 *         read_strip(x, from, 0, s);
 *         UNROLL
 *         for (int e = 0; e < AT_ONCE; e++)
 *             x[e] = 2.0f * x[e];
 *         write_strip(to, 0, s, x);
 *     } */
#ifndef HB_GPU_STRIP_H
#define HB_GPU_STRIP_H

#include "gpu/gpu.h"

enum { AT_ONCE = 8, STRIP_THREADS = 256 /* of a block */ };

template <int APART> struct strip {
    int64_t first, n, step; /* element 0 of this strip; all elements; from one strip to the next */
    int left;               /* elements from the first on, at most 2^30 */

    __device__ inline strip(int64_t begin, int64_t end, int64_t stride) : first(begin), n(end), step(stride)
    {
        look();
    }

    __device__ inline void look()
    {
        left = (int)smaller(n - first, 1 << 30);
    }

    __device__ inline int64_t at(int e) const
    {
        return first + e * APART;
    }

    __device__ inline bool has(int e) const
    {
        return e * APART < left;
    }

    __device__ inline void next()
    {
        first += step;
        look();
    }
};

/* Of n elements, all threads of the grid: strip_blocks(n) blocks of STRIP_THREADS. */
static __device__ inline strip<STRIP_THREADS> strip_of_thread(int64_t n)
{
    const int64_t block = AT_ONCE * STRIP_THREADS;
    return strip<STRIP_THREADS>(blockIdx.x * block + threadIdx.x, n, gridDim.x * block);
}

/* Of n elements of a row, the threads of one block, which are STRIP_THREADS, or n or more. */
static __device__ inline strip<STRIP_THREADS> strip_of_block(int64_t n)
{
    return strip<STRIP_THREADS>(threadIdx.x, n, AT_ONCE * STRIP_THREADS);
}

/* Of n elements of a row, the lanes of one warp: as rule 3 deals them out. */
static __device__ inline strip<32> strip_of_lane(int64_t n)
{
    return strip<32>(threadIdx.x % 32, n, AT_ONCE * 32);
}

static inline dim3 strip_blocks(int64_t n)
{
    return blocks_for(n, AT_ONCE * STRIP_THREADS);
}

/* x[e] = element origin + at(e); +0 behind the last. */
template <int APART>
static __device__ inline void read_strip(float (&x)[AT_ONCE], const struct array &from, int64_t origin,
                                         const strip<APART> &s)
{
    if (from.dtype == HB_F32) {
        const float *element = static_cast<const float *>(from.data) + (origin + s.first);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            x[e] = s.has(e) ? element[e * APART] : 0.0f;
        return;
    }
    const uint16_t *element = static_cast<const uint16_t *>(from.data) + (origin + s.first);
    uint16_t bits[AT_ONCE];
    UNROLL
    for (int e = 0; e < AT_ONCE; e++)
        bits[e] = s.has(e) ? element[e * APART] : 0;
    if (from.dtype == HB_BF16) {
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            x[e] = hb_f32_of_bf16(bits[e]);
    } else {
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            x[e] = hb_f32_of_f16(bits[e]);
    }
}

template <int DTYPE, int APART>
static __device__ inline void write_as(void *data, int64_t first, const strip<APART> &s,
                                       const float (&x)[AT_ONCE])
{
    struct array to = {data, DTYPE};
    UNROLL
    for (int e = 0; e < AT_ONCE; e++)
        if (s.has(e))
            store(to, first + e * APART, x[e]);
}

/* Element origin + at(e) = x[e], of those that there are. */
template <int APART>
static __device__ inline void write_strip(const struct array &to, int64_t origin, const strip<APART> &s,
                                          const float (&x)[AT_ONCE])
{
    if (to.dtype == HB_F32)
        write_as<HB_F32>(to.data, origin + s.first, s, x);
    else if (to.dtype == HB_BF16)
        write_as<HB_BF16>(to.data, origin + s.first, s, x);
    else
        write_as<HB_F16>(to.data, origin + s.first, s, x);
}

#endif
