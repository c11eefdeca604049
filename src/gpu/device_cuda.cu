#include "gpu/device.h"
#include "gpu/memory.h"

#include <stdlib.h>

extern "C" {
#include "comm/comm.h"
}

/* Copies in go through pinned memory, because from ordinary memory they would wait for the queue.
 * It has two halves; one is filled again when the copies from it are done. */
static const size_t HALF = (size_t)4 << 20;

/* What was allocated: for its category, and its size. */
struct block {
    void *memory;
    size_t bytes;
    enum hb_memory_category category;
};

struct gpu_device {
    cudaStream_t stream;
    int multiprocessors;
    bool ordered; /* memory comes in the order of the queue */
    unsigned char *pinned;
    cudaEvent_t done[2]; /* with each half */
    int half;
    size_t used; /* of this half */
    struct block *blocks; /* open addressing by address; memory NULL: empty */
    size_t capacity, count;
};

static hb_status failed(const char *what, cudaError_t error)
{
    cudaGetLastError(); /* an error that is not the device's end is not met twice */
    return HB_FAIL(HB_EINTERNAL, "cuda: %s: %s (%s)", what, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

#define CUDA_TRY(what, call)                \
    do {                                    \
        cudaError_t error_ = (call);        \
        if (error_ != cudaSuccess)          \
            return failed((what), error_);  \
    } while (0)

/* --- life --- */

hb_status hb_cuda_find_device(void)
{
    int driver = 0, count = 0;
    cudaError_t error = cudaDriverGetVersion(&driver);
    if (error != cudaSuccess || driver == 0)
        return HB_FAIL(HB_EUNSUPPORTED, "cuda: no device (driver not found)");
    error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver)
        return HB_FAIL(
            HB_EUNSUPPORTED,
            "cuda: the driver is too old: it speaks CUDA %d.%d, this program needs %d.%d; update the "
            "driver, or build with an older toolkit",
            driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
        return HB_FAIL(HB_EUNSUPPORTED, "cuda: no device (the driver is there and finds none)");
    if (error != cudaSuccess)
        return HB_FAIL(HB_EUNSUPPORTED, "cuda: no device (%s)", cudaGetErrorString(error));
    return HB_OK;
}

static __global__ void nothing(void)
{
}

/* Was anything compiled for this device? Every launch would fail. */
static hb_status check_architecture(int number)
{
    int major = 0, minor = 0;
    struct cudaFuncAttributes attributes;
    CUDA_TRY("its compute capability",
             cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number));
    CUDA_TRY("its compute capability",
             cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number));
    if (cudaFuncGetAttributes(&attributes, nothing) != cudaSuccess) {
        cudaGetLastError();
        return HB_FAIL(HB_EUNSUPPORTED,
                       "cuda: the kernels were not built for this device's architecture; configure with "
                       "--with-cuda-arch=%d%d",
                       major, minor);
    }
    return HB_OK;
}

static hb_status keep_freed_memory(struct gpu_device *device, int number)
{
    int pools = 0;
    cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, number);
    device->ordered = pools != 0;
    if (!device->ordered)
        return HB_OK;
    cudaMemPool_t pool;
    uint64_t threshold = UINT64_MAX;
    CUDA_TRY("its memory pool", cudaDeviceGetDefaultMemPool(&pool, number));
    CUDA_TRY("its memory pool", cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    return HB_OK;
}

static hb_status set_up(struct gpu_device *device)
{
    int devices = 0;
    CUDA_TRY("counting devices", cudaGetDeviceCount(&devices));
    int number = hb_comm_local_rank() % devices; /* ranks of a machine take them in turn */
    CUDA_TRY("choosing a device", cudaSetDevice(number));
    HB_TRY(check_architecture(number));
    CUDA_TRY("counting multiprocessors", cudaDeviceGetAttribute(&device->multiprocessors,
                                                                cudaDevAttrMultiProcessorCount, number));
    CUDA_TRY("making a stream", cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
    HB_TRY(keep_freed_memory(device, number));
    CUDA_TRY("pinned memory", cudaMallocHost(reinterpret_cast<void **>(&device->pinned), 2 * HALF));
    for (int i = 0; i < 2; i++)
        CUDA_TRY("an event", cudaEventCreateWithFlags(&device->done[i], cudaEventDisableTiming));
    return HB_OK;
}

hb_status HB_GPU(device_open)(struct gpu_device **out)
{
    /* A kernel that is loaded at its first launch may wait for all work of the device. A message among it
     * that waits for a rank which does the same would never end. Nor would one behind another stream's wait
     * in the same hardware queue: there are 8, unless more are asked for, and each pair of a pipeline's
     * ranks has a stream. */
    if (hb_comm_is_parallel()) {
        setenv("CUDA_MODULE_LOADING", "EAGER", 0);
        setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    }
    HB_TRY(hb_cuda_find_device());
    struct gpu_device *device = static_cast<struct gpu_device *>(calloc(1, sizeof *device));
    if (!device)
        return HB_FAIL(HB_EMEMORY, "cuda: out of host memory for its state");
    hb_status status = set_up(device);
    if (status != HB_OK) {
        HB_GPU(device_close)(device);
        return status;
    }
    *out = device;
    return HB_OK;
}

void HB_GPU(device_close)(struct gpu_device *device)
{
    if (device->stream)
        cudaStreamSynchronize(device->stream);
    for (size_t i = 0; i < device->capacity; i++)
        if (device->blocks[i].memory) {
            cudaFree(device->blocks[i].memory);
            hb_memory_count(device->blocks[i].category, -(int64_t)device->blocks[i].bytes);
        }
    for (int i = 0; i < 2; i++)
        if (device->done[i])
            cudaEventDestroy(device->done[i]);
    if (device->pinned)
        cudaFreeHost(device->pinned);
    if (device->stream)
        cudaStreamDestroy(device->stream);
    free(device->blocks);
    free(device);
}

gpu_stream HB_GPU(device_stream)(struct gpu_device *device)
{
    return device->stream;
}

int HB_GPU(device_multiprocessors)(const struct gpu_device *device)
{
    return device->multiprocessors;
}

bool HB_GPU(device_has_pools)(const struct gpu_device *device)
{
    return device->ordered;
}

/* --- records of blocks --- */

static size_t slot_of(const struct gpu_device *device, const void *memory)
{
    /* The upper bits: those below are zeros of the address where blocks lie on 2 MiB. */
    size_t slot = (((uint64_t)(uintptr_t)memory * 0x9e3779b97f4a7c15u) >> 32) % device->capacity;
    while (device->blocks[slot].memory && device->blocks[slot].memory != memory)
        slot = (slot + 1) % device->capacity;
    return slot;
}

/* Room for one more, at most half full. */
static hb_status reserve(struct gpu_device *device)
{
    if (2 * (device->count + 1) <= device->capacity)
        return HB_OK;
    struct gpu_device old = *device;
    size_t capacity = old.capacity ? 2 * old.capacity : 1024;
    struct block *blocks = static_cast<struct block *>(calloc(capacity, sizeof *blocks));
    if (!blocks)
        return HB_FAIL(HB_EMEMORY, "cuda: out of host memory for the records of device memory");
    device->blocks = blocks;
    device->capacity = capacity;
    for (size_t i = 0; i < old.capacity; i++)
        if (old.blocks[i].memory)
            device->blocks[slot_of(device, old.blocks[i].memory)] = old.blocks[i];
    free(old.blocks);
    return HB_OK;
}

/* Those behind it in its run move up, so that nobody is lost. */
static void remove_block(struct gpu_device *device, size_t slot)
{
    device->blocks[slot].memory = NULL;
    device->count--;
    for (size_t i = (slot + 1) % device->capacity; device->blocks[i].memory; i = (i + 1) % device->capacity) {
        struct block moved = device->blocks[i];
        device->blocks[i].memory = NULL;
        device->blocks[slot_of(device, moved.memory)] = moved;
    }
}

/* --- memory --- */

hb_status HB_GPU(device_alloc)(struct gpu_device *device, enum hb_memory_category category, size_t bytes,
                               void **out)
{
    HB_TRY(reserve(device));
    size_t size = bytes ? bytes : 1;
    cudaError_t error = device->ordered ? cudaMallocAsync(out, size, device->stream) : cudaMalloc(out, size);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        size_t unused = 0, all = 0;
        cudaMemGetInfo(&unused, &all);
        return HB_FAIL(
            HB_EMEMORY,
            "cuda: out of device memory: %zu bytes wanted for %s, %zu of %zu are free; use a smaller "
            "model or microbatch",
            bytes, hb_memory_category_name(category), unused, all);
    }
    CUDA_TRY("allocating", error);
    struct block block = {*out, bytes, category};
    device->blocks[slot_of(device, *out)] = block;
    device->count++;
    hb_memory_count(category, (int64_t)bytes);
    return HB_OK;
}

hb_status HB_GPU(device_free)(struct gpu_device *device, void *memory)
{
    size_t slot = device->capacity ? slot_of(device, memory) : 0;
    if (!device->capacity || !device->blocks[slot].memory)
        return HB_FAIL(HB_EARGUMENT, "cuda: free of memory that alloc did not give");
    hb_memory_count(device->blocks[slot].category, -(int64_t)device->blocks[slot].bytes);
    remove_block(device, slot);
    CUDA_TRY("freeing", device->ordered ? cudaFreeAsync(memory, device->stream) : cudaFree(memory));
    return HB_OK;
}

static hb_status copy_piece_in(struct gpu_device *device, void *to, const void *host, size_t bytes)
{
    if (device->used + bytes > HALF) {
        CUDA_TRY("an event", cudaEventRecord(device->done[device->half], device->stream));
        device->half = 1 - device->half;
        device->used = 0;
        CUDA_TRY("copying in", cudaEventSynchronize(device->done[device->half]));
    }
    unsigned char *at = device->pinned + (size_t)device->half * HALF + device->used;
    memcpy(at, host, bytes);
    device->used += bytes;
    CUDA_TRY("copying in", cudaMemcpyAsync(to, at, bytes, cudaMemcpyHostToDevice, device->stream));
    return HB_OK;
}

hb_status HB_GPU(device_copy_in)(struct gpu_device *device, void *to, const void *host, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += HALF)
        HB_TRY(copy_piece_in(device, static_cast<char *>(to) + at, static_cast<const char *>(host) + at,
                             bytes - at < HALF ? bytes - at : HALF));
    return HB_OK;
}

hb_status HB_GPU(device_copy_out)(struct gpu_device *device, void *host, const void *from, size_t bytes)
{
    if (bytes == 0)
        return HB_OK;
    CUDA_TRY("copying out", cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, device->stream));
    return HB_GPU(device_wait)(device);
}

hb_status HB_GPU(device_copy)(struct gpu_device *device, void *to, const void *from, size_t bytes)
{
    if (bytes)
        CUDA_TRY("copying", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device->stream));
    return HB_OK;
}

hb_status HB_GPU(device_zero)(struct gpu_device *device, void *memory, size_t bytes)
{
    if (bytes)
        CUDA_TRY("filling with zeros", cudaMemsetAsync(memory, 0, bytes, device->stream));
    return HB_OK;
}

hb_status HB_GPU(device_wait)(struct gpu_device *device)
{
    cudaError_t error = cudaStreamSynchronize(device->stream);
    if (error != cudaSuccess)
        return failed("the device, in earlier work", error);
    return HB_OK;
}
