/* A channel: a communicator of NCCL with a queue of its own, on which its operations follow each other.
 *
 * Calls return at once, and the host asks now and then whether they are through: inside of NCCL it would
 * not hear that another rank has failed. `comm`, for messages, is the communicator that it belongs to. */
#ifndef HB_GPU_CHANNEL_H
#define HB_GPU_CHANNEL_H

#include "gpu/nccl_library.h"

#if HB_GPU_NCCL

extern "C" {
#include "comm/transport.h"
}

struct group; /* operations that were asked for together */

struct channel {
    ncclComm_t comm; /* NULL: there is none */
    gpu_queue queue;
    struct group *first, **last; /* that have not passed */
    int64_t begun, passed;       /* how many groups */
};

hb_status HB_GPU(channel_open)(struct channel *channel, struct gpu_device *device);
/* `abort`: whatever is under way ends where it is. */
void HB_GPU(channel_close)(struct channel *channel, bool abort);

/* Begins to make its communicator, of `ranks` ranks that agree on `id`; channel_ready waits for it. */
hb_status HB_GPU(channel_connect)(const struct hb_comm *comm, struct channel *channel, int ranks, int rank,
                                  const ncclUniqueId *id);
hb_status HB_GPU(channel_ready)(const struct hb_comm *comm, struct channel *channel);

/* What is sent and received between them, at once, becomes a group, behind what the device was asked for so
 * far: number channel->begun. */
hb_status HB_GPU(channel_begin)(const struct hb_comm *comm, struct channel *channel,
                                struct gpu_device *device);
hb_status HB_GPU(channel_send)(const struct hb_comm *comm, struct channel *channel, int to, const void *data,
                               size_t bytes);
hb_status HB_GPU(channel_receive)(const struct hb_comm *comm, struct channel *channel, int from, void *data,
                                  size_t bytes);
hb_status HB_GPU(channel_end)(const struct hb_comm *comm, struct channel *channel);
/* The two halves of channel_end. Groups of several channels at once: begin each, close as many, note each. */
hb_status HB_GPU(channel_close_group)(const struct hb_comm *comm);
hb_status HB_GPU(channel_note)(const struct hb_comm *comm, struct channel *channel);

/* Looks how many groups have passed, and for errors. Does not wait. */
hb_status HB_GPU(channel_advance)(const struct hb_comm *comm, struct channel *channel);
/* Waits for all of them. */
hb_status HB_GPU(channel_drain)(const struct hb_comm *comm, struct channel *channel);

/* What NCCL answered, as an error or not. */
hb_status HB_GPU(nccl_check)(const struct hb_comm *comm, const char *what, ncclResult_t result);

#endif

#endif
