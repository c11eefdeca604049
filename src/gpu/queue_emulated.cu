#include "gpu/queue.h"

#include <stdlib.h>
#include <unistd.h>

hb_status HB_GPU(queue_open)(struct gpu_device *device, gpu_queue *out)
{
    return hb_emulator_queue_create(HB_GPU(device_stream)(device), out);
}

void HB_GPU(queue_close)(gpu_queue queue)
{
    hb_emulator_queue_destroy(queue);
}

/* The device has done at once what it was asked for. */
hb_status HB_GPU(queue_follow)(gpu_queue, struct gpu_device *)
{
    return HB_OK;
}

hb_status HB_GPU(queue_mark)(gpu_queue queue, gpu_mark *out)
{
    *out = hb_emulator_queue_count(queue);
    return HB_OK;
}

void HB_GPU(mark_drop)(gpu_mark)
{
}

hb_status HB_GPU(mark_passed)(gpu_queue queue, gpu_mark mark, bool *passed)
{
    return hb_emulator_queue_passed(queue, mark, passed);
}

/* Every process has a device of its own, but where HB_EMULATED_DEVICE gives them a name. */
hb_status HB_GPU(device_identity)(unsigned char identity[HB_GPU_IDENTITY])
{
    const char *name = getenv("HB_EMULATED_DEVICE");
    pid_t process = getpid();
    memset(identity, 0, HB_GPU_IDENTITY);
    if (name)
        memcpy(identity, name, strnlen(name, HB_GPU_IDENTITY));
    else
        memcpy(identity, &process, sizeof process);
    return HB_OK;
}
