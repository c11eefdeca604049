/* Kernels that wait for memory and for little else: a thread reads several of its
 * elements before it uses the first, so that enough is on its way to keep memory
 * busy (one at a time, in 16 bits, would be a quarter of what a device can do).
 * Its elements are apart, so that neighbouring threads read neighbours.
 *
 *     for (struct strip s = strip_of_thread(n); s.has(0); s.next()) {
 *         float x[AT_ONCE];
 *         read_strip(x, from, 0, s);
 *         UNROLL
 *         for (int e = 0; e < AT_ONCE; e++)
 *             if (s.has(e))
 *                 store(to, s.at(e), x[e]);
 *     } */
#ifndef HB_GPU_STRIP_H
#define HB_GPU_STRIP_H

#include "gpu/gpu.h"
#include "gpu/piece.h"

enum { AT_ONCE = 8 };

struct strip {
    int64_t first, n, step; /* element 0 of this strip; all elements; from one strip to the next */
    int apart;              /* from one element to the next */

    __device__ inline int64_t at(int e) const
    {
        return first + e * apart;
    }

    __device__ inline bool has(int e) const
    {
        return at(e) < n;
    }

    __device__ inline void next()
    {
        first += step;
    }
};

/* Of n elements, all threads of the grid: strip_blocks(n, block) blocks. */
static __device__ inline struct strip strip_of_thread(int64_t n)
{
    int64_t block = (int64_t)AT_ONCE * blockDim.x;
    struct strip s = {blockIdx.x * block + threadIdx.x, n, gridDim.x * block, (int)blockDim.x};
    return s;
}

/* Of n elements of a row, the threads of one block. */
static __device__ inline struct strip strip_of_block(int64_t n)
{
    struct strip s = {threadIdx.x, n, (int64_t)AT_ONCE * blockDim.x, (int)blockDim.x};
    return s;
}

/* Of n elements of a row, the lanes of one warp: as rule 3 deals them out. */
static __device__ inline struct strip strip_of_lane(int64_t n)
{
    struct strip s = {threadIdx.x % 32, n, AT_ONCE * 32, 32};
    return s;
}

static inline dim3 strip_blocks(int64_t n, int block)
{
    return blocks_for(n, AT_ONCE * block);
}

/* x[e] = element origin + at(e); +0 behind the last. */
static __device__ inline void read_strip(float (&x)[AT_ONCE], const struct array &from, int64_t origin,
                                         const struct strip &s)
{
    read_several(x, from, [&](int e) { return s.has(e) ? origin + s.at(e) : (int64_t)-1; });
}

#endif
