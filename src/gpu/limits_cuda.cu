/* What the device states about itself, for `hornbook bench`. */
#include "gpu/gpu.h"

extern "C" {
#include "ops/backend.h"
}

#include <stdio.h>

extern "C" hb_status hb_cuda_limits(struct hb_context *context, struct hb_limits *out);

/* fp32 FMA units of a multiprocessor, by compute capability (CUDA C++ Programming Guide, arithmetic
 * throughput). */
static int units_of(int major, int minor)
{
    bool half = (major == 8 && minor == 0) || major < 8;
    return half && major != 5 && !(major == 6 && minor != 0) ? 64 : 128;
}

extern "C" hb_status hb_cuda_limits(struct hb_context *context, struct hb_limits *out)
{
    static const cudaDeviceAttr wanted[] = {cudaDevAttrComputeCapabilityMajor,
                                            cudaDevAttrComputeCapabilityMinor, cudaDevAttrClockRate,
                                            cudaDevAttrMemoryClockRate, cudaDevAttrGlobalMemoryBusWidth};
    enum { MAJOR, MINOR, CLOCK, MEMORY_CLOCK, BUS, COUNT };
    int value[COUNT], number = 0;
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDevice(&number);
    for (int i = 0; i < COUNT && error == cudaSuccess; i++)
        error = cudaDeviceGetAttribute(&value[i], wanted[i], number);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, number);
    if (error != cudaSuccess)
        return HB_FAIL(HB_EINTERNAL, "cuda: properties of the device: %s", cudaGetErrorString(error));
    snprintf(out->device, sizeof out->device, "%s", properties.name);
    /* Clocks are in kHz, 0 where the driver tells none; memory moves twice a tick, the bus is in bits. */
    out->flops = 2e3 * value[CLOCK] * units_of(value[MAJOR], value[MINOR]) * gpu_multiprocessors(context);
    out->bytes = 2e3 * value[MEMORY_CLOCK] * value[BUS] / 8;
    return HB_OK;
}
