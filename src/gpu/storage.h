/* Tensors as kernels see them: a pointer and a storage type, each tensor its
 * own. Element i is widened to fp32 when it is read and rounded once, to nearest
 * even, when it is written, by the integer code of core/dtype.h. The switch is
 * the same for all threads, so it costs a device next to nothing where memory is
 * what one waits for. */
#ifndef HB_GPU_STORAGE_H
#define HB_GPU_STORAGE_H

#include "gpu/dialect.h"

extern "C" {
#include "core/math.h"
#include "core/tensor.h"
}

struct array {
    void *data;
    int dtype; /* enum hb_dtype */
};

#ifndef __CUDACC__
static inline void hb_emulated_look(struct hb_emulated_launch *launch, const struct array &a)
{
    hb_emulated_note(launch, a.data);
}
#endif

static inline struct array array_of(const struct hb_tensor *t)
{
    struct array a = {t->data, (int)t->dtype};
    return a;
}

static __host__ __device__ inline float load(struct array a, int64_t i)
{
    switch (a.dtype) {
    case HB_BF16:
        return hb_f32_of_bf16(static_cast<const uint16_t *>(a.data)[i]);
    case HB_F16:
        return hb_f32_of_f16(static_cast<const uint16_t *>(a.data)[i]);
    default:
        return static_cast<const float *>(a.data)[i];
    }
}

static __host__ __device__ inline void store(struct array a, int64_t i, float x)
{
    switch (a.dtype) {
    case HB_BF16:
        static_cast<uint16_t *>(a.data)[i] = hb_bf16_of_f32(x);
        break;
    case HB_F16:
        static_cast<uint16_t *>(a.data)[i] = hb_f16_of_f32(x);
        break;
    default:
        static_cast<float *>(a.data)[i] = x;
    }
}

/* The fp32 (int32, int64, fp64) elements of a tensor that has no other type. */
static inline float *f32_of(const struct hb_tensor *t)
{
    return static_cast<float *>(t->data);
}

static inline double *f64_of(const struct hb_tensor *t)
{
    return static_cast<double *>(t->data);
}

static inline int32_t *i32_of(const struct hb_tensor *t)
{
    return static_cast<int32_t *>(t->data);
}

static inline int64_t *i64_of(const struct hb_tensor *t)
{
    return static_cast<int64_t *>(t->data);
}

/* i64 [2] of counts, data NULL: not asked; every thread of the warp comes here. */
static __device__ inline void add_extremes(int64_t *extremes, int overflow, int underflow)
{
    if (!extremes)
        return;
    for (int s = 16; s > 0; s /= 2) {
        overflow += __shfl_xor_sync(WARP, overflow, s);
        underflow += __shfl_xor_sync(WARP, underflow, s);
    }
    if (threadIdx.x % 32 == 0 && overflow)
        atomicAdd(reinterpret_cast<unsigned long long *>(&extremes[0]), (unsigned long long)overflow);
    if (threadIdx.x % 32 == 0 && underflow)
        atomicAdd(reinterpret_cast<unsigned long long *>(&extremes[1]), (unsigned long long)underflow);
}

/* Rule 3: the 32 lanes of a warp are added as a tree 16, 8, 4, 2, 1. Lane 0
 * has the tree's order; addition commutes, so every lane ends with its bits. */
static __device__ inline float lanes_sum(float lane)
{
    for (int s = 16; s > 0; s /= 2)
        lane = lane + __shfl_xor_sync(WARP, lane, s);
    return lane;
}

static __device__ inline double lanes_sum(double lane)
{
    for (int s = 16; s > 0; s /= 2)
        lane = lane + __shfl_xor_sync(WARP, lane, s);
    return lane;
}

/* Rule 5: a NaN is the maximum of whatever it meets. */
static __device__ inline float larger(float a, float b)
{
    return a > b || a != a ? a : b;
}

#endif
