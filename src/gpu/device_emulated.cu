#include "gpu/device.h"

/* The emulator is its own queue. */
static struct hb_emulator *emulator_of(const struct gpu_device *device)
{
    return reinterpret_cast<struct hb_emulator *>(const_cast<struct gpu_device *>(device));
}

hb_status HB_GPU(device_open)(struct gpu_device **out)
{
    struct hb_emulator *emulator;
    HB_TRY(hb_emulator_create(&emulator));
#ifdef HB_CHECKED
    hb_status status = hb_emulator_check(emulator);
    if (status != HB_OK) {
        hb_emulator_destroy(emulator);
        return status;
    }
#endif
    *out = reinterpret_cast<struct gpu_device *>(emulator);
    return HB_OK;
}

void HB_GPU(device_close)(struct gpu_device *device)
{
    hb_emulator_destroy(emulator_of(device));
}

gpu_stream HB_GPU(device_stream)(struct gpu_device *device)
{
    return emulator_of(device);
}

int HB_GPU(device_multiprocessors)(const struct gpu_device *device)
{
    (void)device;
    return 1; /* blocks run one after the other */
}

bool HB_GPU(device_has_pools)(const struct gpu_device *device)
{
    return hb_emulator_has_pools(emulator_of(device));
}

hb_status HB_GPU(device_alloc)(struct gpu_device *device, enum hb_memory_category category, size_t bytes,
                               void **out)
{
    return hb_emulator_alloc(emulator_of(device), category, bytes, out);
}

hb_status HB_GPU(device_free)(struct gpu_device *device, void *memory)
{
    return hb_emulator_free(emulator_of(device), memory);
}

hb_status HB_GPU(device_copy_in)(struct gpu_device *device, void *to, const void *host, size_t bytes)
{
    return hb_emulator_copy_in(emulator_of(device), to, host, bytes);
}

hb_status HB_GPU(device_copy_out)(struct gpu_device *device, void *host, const void *from, size_t bytes)
{
    return hb_emulator_copy_out(emulator_of(device), host, from, bytes);
}

hb_status HB_GPU(device_copy)(struct gpu_device *device, void *to, const void *from, size_t bytes)
{
    return hb_emulator_copy(emulator_of(device), to, from, bytes);
}

hb_status HB_GPU(device_zero)(struct gpu_device *device, void *memory, size_t bytes)
{
    return hb_emulator_zero(emulator_of(device), memory, bytes);
}

hb_status HB_GPU(device_wait)(struct gpu_device *device)
{
    return hb_emulator_wait(emulator_of(device));
}
