#include "gpu/channel.h"

#if HB_GPU_NCCL

#include <stdlib.h>

struct group {
    struct group *next;
    gpu_mark mark;
};

static int open_groups; /* of NCCL: begun and not closed */

/* Loaded by whoever opens a channel. */
static const struct nccl *library(void)
{
    const struct nccl *nccl = NULL;
    return HB_GPU(nccl_load)(&nccl) == HB_OK ? nccl : NULL;
}

hb_status HB_GPU(nccl_check)(const struct hb_comm *comm, const char *what, ncclResult_t result)
{
    if (result == ncclSuccess || result == ncclInProgress)
        return HB_OK;
    return HB_FAIL(HB_EIO,
                   "NCCL: %s in group %s failed on rank %d: %s; NCCL_DEBUG=INFO in the environment says "
                   "more, parallel.transport: host does without NCCL",
                   what, comm->name, hb_comm_world_rank(comm, comm->rank), library()->text(result));
}

/* --- life --- */

hb_status HB_GPU(channel_open)(struct channel *c, struct gpu_device *device)
{
    const struct nccl *nccl;
    HB_TRY(HB_GPU(nccl_load)(&nccl));
    *c = {};
    c->last = &c->first;
    return HB_GPU(queue_open)(device, &c->queue);
}

static void drop_first(struct channel *c)
{
    struct group *group = c->first;
    HB_GPU(mark_drop)(group->mark);
    c->first = group->next;
    if (!c->first)
        c->last = &c->first;
    free(group);
}

void HB_GPU(channel_close)(struct channel *c, bool abort)
{
    /* What fails between begin and end leaves a group open, in which NCCL would only note the abort. */
    for (; abort && open_groups; open_groups--)
        library()->group_end();
    if (c->comm && abort)
        library()->abort(c->comm);
    else if (c->comm)
        library()->destroy(c->comm);
    while (c->first)
        drop_first(c);
    HB_GPU(queue_close)(c->queue);
    *c = {};
}

struct look {
    const struct hb_comm *comm;
    struct channel *channel;
};

/* Has NCCL taken the last call? It is not to be called again before. */
static hb_status is_ready(void *state, bool *done)
{
    const struct look *look = static_cast<const struct look *>(state);
    ncclResult_t result = ncclSuccess;
    HB_TRY(HB_GPU(nccl_check)(look->comm, "asking for errors",
                              library()->get_error(look->channel->comm, &result)));
    *done = result != ncclInProgress;
    return HB_GPU(nccl_check)(look->comm, "an operation", result);
}

hb_status HB_GPU(channel_connect)(const struct hb_comm *comm, struct channel *c, int ranks, int rank,
                                  const ncclUniqueId *id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return HB_GPU(nccl_check)(comm, "making a communicator",
                              library()->init(&c->comm, ranks, *id, rank, &config));
}

hb_status HB_GPU(channel_ready)(const struct hb_comm *comm, struct channel *c)
{
    struct look look = {comm, c};
    return hb_comm_until(comm, is_ready, &look);
}

/* --- operations --- */

hb_status HB_GPU(channel_begin)(const struct hb_comm *comm, struct channel *c, struct gpu_device *device)
{
    HB_TRY(HB_GPU(queue_follow)(c->queue, device));
    HB_TRY(HB_GPU(nccl_check)(comm, "an operation", library()->group_start()));
    open_groups++;
    return HB_OK;
}

hb_status HB_GPU(channel_send)(const struct hb_comm *comm, struct channel *c, int to, const void *data,
                               size_t bytes)
{
    return HB_GPU(nccl_check)(comm, "a send",
                              library()->send(data, bytes, ncclInt8, to, c->comm, c->queue));
}

hb_status HB_GPU(channel_receive)(const struct hb_comm *comm, struct channel *c, int from, void *data,
                                  size_t bytes)
{
    return HB_GPU(nccl_check)(comm, "a receive",
                              library()->recv(data, bytes, ncclInt8, from, c->comm, c->queue));
}

hb_status HB_GPU(channel_close_group)(const struct hb_comm *comm)
{
    open_groups--;
    return HB_GPU(nccl_check)(comm, "an operation", library()->group_end());
}

hb_status HB_GPU(channel_end)(const struct hb_comm *comm, struct channel *c)
{
    HB_TRY(HB_GPU(channel_close_group)(comm));
    return HB_GPU(channel_note)(comm, c);
}

hb_status HB_GPU(channel_note)(const struct hb_comm *comm, struct channel *c)
{
    HB_TRY(HB_GPU(channel_ready)(comm, c));
    struct group *group = static_cast<struct group *>(calloc(1, sizeof *group));
    if (!group)
        return HB_FAIL(HB_EMEMORY, "out of memory for a message");
    hb_status status = HB_GPU(queue_mark)(c->queue, &group->mark);
    if (status != HB_OK) {
        free(group);
        return status;
    }
    *c->last = group;
    c->last = &group->next;
    c->begun++;
    return HB_OK;
}

hb_status HB_GPU(channel_advance)(const struct hb_comm *comm, struct channel *c)
{
    struct look look = {comm, c};
    bool passed = true;
    if (c->first)
        HB_TRY(is_ready(&look, &passed));
    while (c->first) {
        HB_TRY(HB_GPU(mark_passed)(c->queue, c->first->mark, &passed));
        if (!passed)
            return HB_OK;
        drop_first(c);
        c->passed++;
    }
    return HB_OK;
}

static hb_status has_passed(void *state, bool *done)
{
    const struct look *look = static_cast<const struct look *>(state);
    HB_TRY(HB_GPU(channel_advance)(look->comm, look->channel));
    *done = !look->channel->first;
    return HB_OK;
}

hb_status HB_GPU(channel_drain)(const struct hb_comm *comm, struct channel *c)
{
    struct look look = {comm, c};
    return hb_comm_until(comm, has_passed, &look);
}

#endif
