/* A device and its queue: what memory.cu needs, once over the CUDA runtime
 * (device_cuda.cu) and once over the emulator (device_emulated.cu). */
#ifndef HB_GPU_DEVICE_H
#define HB_GPU_DEVICE_H

#include "gpu/dialect.h"

extern "C" {
#include "core/memory.h"
#include "core/status.h"
}

struct gpu_device;

/* Of the devices that the process sees, the one of its number among the ranks of the machine.
 * HB_EUNSUPPORTED says what is missing: a driver, a newer one, a device. */
hb_status HB_GPU(device_open)(struct gpu_device **out);
void HB_GPU(device_close)(struct gpu_device *device);

gpu_stream HB_GPU(device_stream)(struct gpu_device *device);
int HB_GPU(device_multiprocessors)(const struct gpu_device *device);
/* Does it have memory pools? Without, a free waits for all work of the device, of other queues, too. */
bool HB_GPU(device_has_pools)(const struct gpu_device *device);

/* Memory, in the order of the queue: what is freed may be given out again to later
 * work. HB_EMEMORY names category and bytes. */
hb_status HB_GPU(device_alloc)(struct gpu_device *device, enum hb_memory_category category, size_t bytes,
                               void **out);
hb_status HB_GPU(device_free)(struct gpu_device *device, void *memory);

/* The host's bytes are taken before copy_in returns; those of copy_out are there
 * when it returns, which waits for the queue. Nothing else waits, but for room where
 * 8 MiB are on their way in. */
hb_status HB_GPU(device_copy_in)(struct gpu_device *device, void *to, const void *host, size_t bytes);
hb_status HB_GPU(device_copy_out)(struct gpu_device *device, void *host, const void *from, size_t bytes);
hb_status HB_GPU(device_copy)(struct gpu_device *device, void *to, const void *from, size_t bytes);
hb_status HB_GPU(device_zero)(struct gpu_device *device, void *memory, size_t bytes);

/* Waits for the queue; errors of earlier work surface here at the latest. */
hb_status HB_GPU(device_wait)(struct gpu_device *device);

#endif
