/* The dialect of CUDA in which src/gpu is written. nvcc compiles it for a
 * device; g++ and clang++ compile the very same text for the processor
 * (src/emulator), where every thread of a block is a fiber. What both know:
 *
 *   hb_status launch(name, kernel, grid, block, shared, stream, arguments...)
 *       in place of <<<>>>. The block is a multiple of 32 threads, at most 1024.
 *       `shared` counts dynamic bytes. An empty grid launches nothing.
 *   SHARED(float, as, [2][8][68]);    in place of __shared__ float as[2][8][68]
 *   DYNAMIC_SHARED(float, s);         float *s, of the launch's `shared` bytes, on 16 bytes
 *   threadIdx, blockIdx, blockDim, gridDim
 *   __syncthreads(), __syncwarp(), __shfl_sync, __shfl_xor_sync, __shfl_down_sync,
 *   __shfl_up_sync, __any_sync, __all_sync, __ballot_sync with mask WARP
 *   atomicAdd, atomicOr, atomicMax, atomicMin, atomicExch, atomicCAS on integers
 *   float2, float4, int4, uint2, uint4, dim3; UNROLL in front of a loop
 *
 * Rules of a kernel:
 *   - It is `static __global__ void`, its helpers `static __device__ inline`.
 *   - All threads of a warp come to every warp operation, all threads of a block
 *     to every __syncthreads; nobody returns before the last of them. A row past
 *     the end is computed on and not stored.
 *   - Shared memory that one lane writes and another reads needs __syncwarp in
 *     between, even where a shuffle stands there.
 *   - Sums of products say fmaf; everything else is one rounding an operator.
 *     A tail of k ends by its loop bound and is never padded with zeros
 *     (fmaf(0, 0, -0.0f) is +0).
 *   - Maxima by comparison: x > m || x != x ? x : m.
 *   - No atomics on floats; of mathematics only fmaf, fma, sqrtf, sqrt, `/` and
 *     core/math.h; a float is clamped before it becomes an integer.
 *   - Storage types by gpu/storage.h, whose conversions are integer code.
 *   - A pointer that a kernel is given points into device memory. Tables that
 *     never change are `static __constant__` or static __device__ const. */
#ifndef HB_GPU_DIALECT_H
#define HB_GPU_DIALECT_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WARP 0xffffffffu

#ifdef __CUDACC__

#include "gpu/device_cuda.h"

#define SHARED(type, name, dimensions) __shared__ __align__(32) type name dimensions
#define DYNAMIC_SHARED(type, name)                                       \
    extern __shared__ __align__(16) unsigned char hb_dynamic_shared[];   \
    type *name = reinterpret_cast<type *>(hb_dynamic_shared)
#define UNROLL _Pragma("unroll")
#define UNROLL_NOT _Pragma("unroll 1")

#else

#include "emulator/kernel.h"

#define SHARED(type, name, dimensions) HB_EMULATED_SHARED(type, name, dimensions)
#define DYNAMIC_SHARED(type, name) HB_EMULATED_DYNAMIC_SHARED(type, name)
#define UNROLL
#define UNROLL_NOT

#endif

#endif
