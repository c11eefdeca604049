#include "gpu/queue.h"

static hb_status failed(const char *what, cudaError_t error)
{
    return HB_FAIL(HB_EINTERNAL, "cuda: %s: %s (%s)", what, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

hb_status HB_GPU(queue_open)(struct gpu_device *, gpu_queue *out)
{
    cudaError_t error = cudaStreamCreateWithFlags(out, cudaStreamNonBlocking);
    return error == cudaSuccess ? HB_OK : failed("making a stream for messages", error);
}

void HB_GPU(queue_close)(gpu_queue queue)
{
    if (!queue)
        return;
    cudaStreamSynchronize(queue);
    cudaStreamDestroy(queue);
}

hb_status HB_GPU(queue_follow)(gpu_queue queue, struct gpu_device *device)
{
    gpu_mark mark;
    HB_TRY(HB_GPU(queue_mark)(HB_GPU(device_stream)(device), &mark));
    cudaError_t error = cudaStreamWaitEvent(queue, mark, 0);
    HB_GPU(mark_drop)(mark);
    return error == cudaSuccess ? HB_OK : failed("a message behind earlier work", error);
}

hb_status HB_GPU(queue_mark)(gpu_queue queue, gpu_mark *out)
{
    cudaError_t error = cudaEventCreateWithFlags(out, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return failed("an event", error);
    error = cudaEventRecord(*out, queue);
    if (error == cudaSuccess)
        return HB_OK;
    HB_GPU(mark_drop)(*out);
    return failed("an event", error);
}

void HB_GPU(mark_drop)(gpu_mark mark)
{
    cudaEventDestroy(mark);
}

hb_status HB_GPU(mark_passed)(gpu_queue, gpu_mark mark, bool *passed)
{
    cudaError_t error = cudaEventQuery(mark);
    *passed = error == cudaSuccess;
    return error == cudaSuccess || error == cudaErrorNotReady ? HB_OK
                                                              : failed("a message, or work before it", error);
}

hb_status HB_GPU(device_identity)(unsigned char identity[HB_GPU_IDENTITY])
{
    int number = 0;
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDevice(&number);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, number);
    if (error != cudaSuccess)
        return failed("the device's identity", error);
    memcpy(identity, properties.uuid.bytes, HB_GPU_IDENTITY);
    return HB_OK;
}
