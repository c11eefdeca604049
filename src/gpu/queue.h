/* Queues of a device besides its own one, for messages that move while it computes: once over CUDA's streams
 * (queue_cuda.cu) and once over the emulator's queues (queue_emulated.cu). */
#ifndef HB_GPU_QUEUE_H
#define HB_GPU_QUEUE_H

#include "gpu/device.h"

#ifdef __CUDACC__
typedef cudaStream_t gpu_queue;
typedef cudaEvent_t gpu_mark;
#else
#include "emulator/queue.h"
typedef struct hb_emulator_queue *gpu_queue;
typedef int64_t gpu_mark;
#endif

hb_status HB_GPU(queue_open)(struct gpu_device *device, gpu_queue *out);
/* When its work is over. */
void HB_GPU(queue_close)(gpu_queue queue);

/* What is asked of the queue from now on comes behind what the device was asked for so far. */
hb_status HB_GPU(queue_follow)(gpu_queue queue, struct gpu_device *device);

/* Behind what the queue was asked for so far. To be dropped. */
hb_status HB_GPU(queue_mark)(gpu_queue queue, gpu_mark *out);
void HB_GPU(mark_drop)(gpu_mark mark);
/* Has the queue come there? Does not wait. */
hb_status HB_GPU(mark_passed)(gpu_queue queue, gpu_mark mark, bool *passed);

/* The same for two ranks exactly if they have the same device. */
enum { HB_GPU_IDENTITY = 16 };
hb_status HB_GPU(device_identity)(unsigned char identity[HB_GPU_IDENTITY]);

#endif
