/* The host side of src/gpu. One file per op; every .cu file is compiled for the
 * device by nvcc and for the emulator by the C++ compiler, so its entry points
 * are named by HB_GPU(op): hb_cuda_<op> and hb_emulated_<op>.
 *
 *     extern "C" hb_status HB_GPU(add)(struct hb_context *context, const struct hb_add_args *args)
 *     {
 *         int64_t n = hb_tensor_count(&args->out);
 *         return launch("add", add_kernel, blocks_for(n, 256), 256, 0, gpu_stream_of(context),
 *                       array_of(&args->a), array_of(&args->b), array_of(&args->out), n);
 *     }
 *
 * Work is ordered on the one stream of the context and nothing waits for it:
 * no entry point synchronises or copies to the host, and numbers that steer a
 * step stay on the device. Arguments were checked by src/ops.
 *
 * A kernel's file includes the header of its own op and no other: nvcc is slow, and
 * a change of another op must not call it. */
#ifndef HB_GPU_GPU_H
#define HB_GPU_GPU_H

#include "gpu/storage.h"

struct hb_context;
struct gpu_device;

extern "C" {
gpu_stream HB_GPU(stream)(struct hb_context *context);

/* At least `bytes` of device memory, on 256 bytes, uninitialised, valid for the
 * work that is asked for until the next call of this function on the context.
 * It grows in the first step, under the category workspace, and then stays. */
HB_MUST_USE hb_status HB_GPU(workspace)(struct hb_context *context, size_t bytes, void **out);

/* A place for what numerics: fast needs (a handle of a vendor library), NULL at
 * first; `close` is called with what stands there when the context is closed. */
void **HB_GPU(library)(struct hb_context *context, void (*close)(void *library));

struct gpu_device *HB_GPU(device)(struct hb_context *context);

/* numerics: fast? */
bool HB_GPU(is_fast)(const struct hb_context *context);

/* Processors of the device that run blocks at the same time. */
int HB_GPU(multiprocessors)(const struct hb_context *context);
}

#define gpu_stream_of HB_GPU(stream)
#define gpu_workspace HB_GPU(workspace)
#define gpu_is_fast HB_GPU(is_fast)
#define gpu_multiprocessors HB_GPU(multiprocessors)

/* A one-dimensional grid for n elements; longer than a grid may be is shortened,
 * so a kernel over elements strides by the grid. */
static inline dim3 blocks_for(int64_t n, int block)
{
    int64_t blocks = (n + block - 1) / block;
    return dim3((unsigned)(blocks < (1 << 30) ? blocks : 1 << 30));
}

static __host__ __device__ inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* In a kernel over elements: its first element, and the stride. */
static __device__ inline int64_t first_element(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ inline int64_t element_stride(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

#endif
