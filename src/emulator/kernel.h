/* The emulator as kernels see it (C++): the words of CUDA that src/gpu uses,
 * each with the meaning that it has on a device. gpu/dialect.h says which.
 *
 * A launch runs its blocks one after the other; the threads of a block are
 * fibers that take turns at barriers and warp operations. Where a thread waits
 * is known by file and line, by the default arguments below. */
#ifndef HB_EMULATOR_KERNEL_H
#define HB_EMULATOR_KERNEL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>

#include "emulator/emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* The same text is compiled once more for the checker (emulator/sanitizer.c). */
#ifdef HB_CHECKED
#define HB_GPU(name) hb_checked_##name
#else
#define HB_GPU(name) hb_emulated_##name
#endif
#define HB_GPU_NAME "cuda-emulated"

typedef struct hb_emulator *gpu_stream;

/* --- vectors --- */

struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
struct __align__(16) int4 {
    int x, y, z, w;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* --- indices: references, kept for the debugger --- */

#define HB_FOR_DEBUGGER __attribute__((used)) static struct hb_index3 &
HB_FOR_DEBUGGER threadIdx = hb_emulated_thread;
HB_FOR_DEBUGGER blockIdx = hb_emulated_block;
HB_FOR_DEBUGGER blockDim = hb_emulated_block_size;
HB_FOR_DEBUGGER gridDim = hb_emulated_grid_size;

/* --- shared memory --- */

/* One object a block; who comes first makes it. Known by the place of its declaration. */
#define HB_EMULATED_SHARED(type, name, dimensions)                                                       \
    static const char name##_place_ = 0;                                                                 \
    typedef type name##_type_ dimensions;                                                                \
    name##_type_ &name = *static_cast<name##_type_ *>(                                                   \
        hb_emulated_shared(&name##_place_, #name, sizeof(name##_type_), __FILE__, __LINE__))
#define HB_EMULATED_DYNAMIC_SHARED(type, name) \
    type *name = static_cast<type *>(hb_emulated_dynamic_shared())

/* --- barriers and warp operations --- */

#define HB_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(HB_HERE)
{
    hb_emulated_barrier(file, line);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, HB_HERE)
{
    hb_emulated_warp_barrier(mask, file, line);
}

static inline void __threadfence(void)
{
}

/* Every lane gives `value` and gets that of lane `from`. */
template <typename T> static inline T hb_emulated_exchange(unsigned mask, T value, int from, HB_HERE)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = hb_emulated_shuffle(mask, bits, from, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int from, HB_HERE)
{
    return hb_emulated_exchange(mask, value, from & 31, file, line);
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, HB_HERE)
{
    return hb_emulated_exchange(mask, value, hb_emulated_lane() ^ bits, file, line);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, HB_HERE)
{
    int lane = hb_emulated_lane(), from = lane + (int)by;
    return hb_emulated_exchange(mask, value, from < 32 ? from : lane, file, line);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, HB_HERE)
{
    int lane = hb_emulated_lane(), from = lane - (int)by;
    return hb_emulated_exchange(mask, value, from >= 0 ? from : lane, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int vote, HB_HERE)
{
    return hb_emulated_ballot(mask, vote, file, line);
}

static inline int __any_sync(unsigned mask, int vote, HB_HERE)
{
    return hb_emulated_ballot(mask, vote, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int vote, HB_HERE)
{
    return hb_emulated_ballot(mask, vote, file, line) == 0xffffffffu;
}

static inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

static inline int __ffs(int bits)
{
    return __builtin_ffs(bits);
}

static inline uint64_t __umul64hi(uint64_t a, uint64_t b)
{
    return (uint64_t)(((unsigned __int128)a * b) >> 64);
}

/* --- atomics on integers: no thread is interrupted --- */

#define HB_EMULATED_ATOMIC(T, name, result)            \
    static inline T name(T *at, T value)               \
    {                                                  \
        hb_emulated_atomic(1);                         \
        T old = *at;                                   \
        *at = (result);                                \
        hb_emulated_atomic(0);                         \
        return old;                                    \
    }
#define HB_EMULATED_ATOMICS(T)                                         \
    HB_EMULATED_ATOMIC(T, atomicAdd, (T)(old + value))                 \
    HB_EMULATED_ATOMIC(T, atomicOr, (T)(old | value))                  \
    HB_EMULATED_ATOMIC(T, atomicMax, value > old ? value : old)        \
    HB_EMULATED_ATOMIC(T, atomicMin, value < old ? value : old)        \
    HB_EMULATED_ATOMIC(T, atomicExch, value)                           \
    static inline T atomicCAS(T *at, T expected, T value)              \
    {                                                                  \
        hb_emulated_atomic(1);                                         \
        T old = *at;                                                   \
        *at = old == expected ? value : old;                           \
        hb_emulated_atomic(0);                                         \
        return old;                                                    \
    }
HB_EMULATED_ATOMICS(int)
HB_EMULATED_ATOMICS(unsigned)
HB_EMULATED_ATOMICS(unsigned long long)

/* --- launches --- */

template <typename T> struct hb_same {
    typedef T type;
};

template <typename... P> struct hb_emulated_call {
    void (*kernel)(P...);
    std::tuple<P...> arguments; /* a copy, as a device has one */

    static void run(void *self)
    {
        hb_emulated_call *call = static_cast<hb_emulated_call *>(self);
        std::apply(call->kernel, call->arguments);
    }
};

/* Pointers among the arguments, also those in arrays (gpu/storage.h). */
static inline void hb_emulated_note(struct hb_emulated_launch *launch, const void *pointer)
{
    if (pointer && launch->pointers < HB_EMULATED_POINTERS)
        launch->pointer[launch->pointers++] = pointer;
}

template <typename T> static inline void hb_emulated_look(struct hb_emulated_launch *, const T &)
{
}

template <typename T>
static inline void hb_emulated_look(struct hb_emulated_launch *launch, T *const &pointer)
{
    hb_emulated_note(launch, pointer);
}

template <typename... P>
static inline hb_status launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                               gpu_stream stream, typename hb_same<P>::type... arguments)
{
    hb_emulated_call<P...> call = {kernel, std::tuple<P...>(arguments...)};
    struct hb_emulated_launch description;
    description.emulator = stream;
    description.name = name;
    description.run = hb_emulated_call<P...>::run;
    description.call = &call;
    description.call_bytes = sizeof call;
    description.grid = {grid.x, grid.y, grid.z};
    description.block = {block.x, block.y, block.z};
    description.shared = shared;
    description.pointers = 0;
    (hb_emulated_look(&description, arguments), ...);
    return hb_emulated_run(&description);
}

#endif
