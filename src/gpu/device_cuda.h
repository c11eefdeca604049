/* nvcc's half of the dialect: launches and the words of the runtime that
 * src/gpu/memory.cu needs. emulator/kernel.h is the other half. */
#ifndef HB_GPU_DEVICE_CUDA_H
#define HB_GPU_DEVICE_CUDA_H

#include <cuda_runtime.h>

extern "C" {
#include "core/status.h"
}

/* `cuda_<op>`: this text is compiled twice. */
#define HB_GPU(name) hb_cuda_##name
#define HB_GPU_NAME "cuda"

typedef cudaStream_t gpu_stream;

template <typename T> struct hb_same {
    typedef T type;
};

/* Launches do not wait, so an error may be that of a kernel before this one. */
static inline hb_status hb_launch_failed(const char *name, cudaError_t error)
{
    return HB_FAIL(HB_EINTERNAL,
                   "cuda: launch of %s, or work before it: %s (%s); CUDA_LAUNCH_BLOCKING=1 in the "
                   "environment names the kernel",
                   name, cudaGetErrorString(error), cudaGetErrorName(error));
}

template <typename... P>
static inline hb_status launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                               gpu_stream stream, typename hb_same<P>::type... arguments)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return HB_OK;
    if (shared > 48 * 1024) { /* more than every device has without being asked */
        cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess)
            return hb_launch_failed(name, error);
    }
    kernel<<<grid, block, shared, stream>>>(arguments...);
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? HB_OK : hb_launch_failed(name, error);
}

#endif
