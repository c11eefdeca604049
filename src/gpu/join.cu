/* Ranks whose messages go from device to device: a transport (comm/transport.h) over NCCL's send and receive,
 * and how ranks come to it.
 *
 * All ranks of a group share a channel. Of a group whose ranks send each other messages one by one (a
 * pipeline), every ordered pair has one, because what is sent waits for the receiver: two ranks that both
 * send first would wait for each other. */
#include "gpu/channel.h"
#include "gpu/fast.h"
#include "gpu/memory.h"

#include <stdlib.h>

#if HB_GPU_NCCL

extern "C" {
#include "comm/over.h"
}

struct joint {
    struct gpu_device *device;
    bool pairs;  /* channel 2 r: to rank r, 2 r + 1: from it; otherwise one for all */
    bool inside; /* between begin and end */
    int rank, size, count;
    struct channel *channel; /* [count] */
};

static struct joint *joint_of(const struct hb_comm *comm)
{
    return reinterpret_cast<struct joint *>(static_cast<uintptr_t>(comm->handle));
}

static struct channel *channel_of(struct joint *j, int peer, bool receives)
{
    return &j->channel[!j->pairs ? 0 : receives ? 2 * peer + 1 : 2 * peer];
}

/* Of a pair, rank 0 sends. */
static int rank_in_channel(const struct joint *j, int peer, bool receives)
{
    return !j->pairs ? peer : receives ? 0 : 1;
}

static void close_channels(struct joint *j, bool abort)
{
    for (int i = 0; i < j->count; i++)
        HB_GPU(channel_close)(&j->channel[i], abort);
}

static void close_joint(struct joint *j, bool abort)
{
    close_channels(j, abort);
    free(j->channel);
    free(j);
}

/* --- the transport --- */

static void expect(const struct channel *c, struct hb_comm_request *request)
{
    request->handle[0] = reinterpret_cast<uintptr_t>(c);
    request->handle[1] = static_cast<uint64_t>(c->begun) + 1;
}

/* Lanes are apart already: messages go by pairs, the rest by all. */
static hb_status send(struct hb_comm *comm, int to, int, const void *data, size_t bytes,
                      struct hb_comm_request *request)
{
    struct joint *j = joint_of(comm);
    struct channel *c = channel_of(j, to, false);
    expect(c, request);
    if (!j->inside)
        HB_TRY(HB_GPU(channel_begin)(comm, c, j->device));
    HB_TRY(HB_GPU(channel_send)(comm, c, rank_in_channel(j, to, false), data, bytes));
    return j->inside ? HB_OK : HB_GPU(channel_end)(comm, c);
}

static hb_status receive(struct hb_comm *comm, int from, int, void *data, size_t bytes,
                         struct hb_comm_request *request)
{
    struct joint *j = joint_of(comm);
    struct channel *c = channel_of(j, from, true);
    expect(c, request);
    if (!j->inside)
        HB_TRY(HB_GPU(channel_begin)(comm, c, j->device));
    HB_TRY(HB_GPU(channel_receive)(comm, c, rank_in_channel(j, from, true), data, bytes));
    return j->inside ? HB_OK : HB_GPU(channel_end)(comm, c);
}

static hb_status test(struct hb_comm *comm, struct hb_comm_request *request)
{
    struct channel *c = reinterpret_cast<struct channel *>(static_cast<uintptr_t>(request->handle[0]));
    HB_TRY(HB_GPU(channel_advance)(comm, c));
    request->done = static_cast<int64_t>(request->handle[1]) <= c->passed;
    return HB_OK;
}

/* An error is met again by whoever waits for the message. */
static void progress(struct hb_comm *comm)
{
    struct joint *j = joint_of(comm);
    hb_status status = HB_OK;
    for (int i = 0; i < j->count && status == HB_OK; i++)
        if (j->channel[i].comm)
            status = HB_GPU(channel_advance)(comm, &j->channel[i]);
}

static hb_status split(struct hb_comm *, int64_t, int64_t, struct hb_comm *out)
{
    return HB_FAIL(HB_EUNSUPPORTED, "communicator %s: split its host and join that", out->name);
}

static void destroy(struct hb_comm *comm)
{
    close_joint(joint_of(comm), false);
}

static void leave(struct hb_comm *, int)
{
}

static hb_status begin(struct hb_comm *comm)
{
    struct joint *j = joint_of(comm);
    HB_TRY(HB_GPU(channel_begin)(comm, &j->channel[0], j->device));
    j->inside = true;
    return HB_OK;
}

static hb_status end(struct hb_comm *comm)
{
    struct joint *j = joint_of(comm);
    j->inside = false;
    return HB_GPU(channel_end)(comm, &j->channel[0]);
}

static hb_status copy(struct hb_comm *comm, void *to, const void *from, size_t bytes)
{
    return HB_GPU(device_copy)(joint_of(comm)->device, to, from, bytes);
}

static void give_up(struct hb_comm *comm)
{
    close_channels(joint_of(comm), true);
}

static const struct hb_transport_device device_part = {begin, end, copy, give_up};
static const struct hb_transport transport = {"NCCL", send, receive, test, progress, NULL, NULL,
                                              &device_part, split, destroy, leave};

/* --- joining --- */

static hb_status make_joint(struct hb_context *context, const struct hb_comm *host, bool pairs,
                            struct joint **out)
{
    struct joint *j = static_cast<struct joint *>(calloc(1, sizeof *j));
    int count = pairs ? 2 * host->size : 1;
    struct channel *channel = static_cast<struct channel *>(calloc((size_t)count, sizeof *channel));
    if (!j || !channel) {
        free(j);
        free(channel);
        return HB_FAIL(HB_EMEMORY, "out of memory for the channels of group %s", host->name);
    }
    *j = {HB_GPU(device)(context), pairs, false, host->rank, host->size, count, channel};
    *out = j;
    for (int i = 0; i < count; i++)
        if (!pairs || i / 2 != host->rank)
            HB_TRY(HB_GPU(channel_open)(&channel[i], j->device));
    return HB_OK;
}

/* Without memory pools a free waits for messages, too; they may wait for a rank whose free waits for ours. */
static hb_status check_memory(const struct gpu_device *device)
{
    if (HB_GPU(device_has_pools)(device))
        return HB_OK;
    return HB_FAIL(HB_EUNSUPPORTED,
                   "this device has no memory pools: freeing its memory waits for NCCL's messages, which "
                   "may be for ever; take parallel.transport: host, or a device that has them");
}

/* NCCL refuses ranks of a communicator that share a device, some versions by waiting for ever; and what it
 * does not refuse, ranks of different groups on one, would wait for each other's turn on it. */
static hb_status check_devices(struct hb_comm *world, const unsigned char *mine)
{
    size_t n = (size_t)world->size, *bytes = static_cast<size_t *>(calloc(n, sizeof *bytes));
    unsigned char *all = static_cast<unsigned char *>(calloc(n, HB_GPU_IDENTITY));
    hb_status status = bytes && all ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for names of devices");
    for (size_t r = 0; status == HB_OK && r < n; r++)
        bytes[r] = HB_GPU_IDENTITY;
    status = hb_comm_agree(world, status);
    if (status == HB_OK)
        status = hb_comm_gather(world, mine, all, bytes);
    for (size_t a = 0; status == HB_OK && a < n; a++)
        for (size_t b = 0; status == HB_OK && b < a; b++)
            if (memcmp(all + a * HB_GPU_IDENTITY, all + b * HB_GPU_IDENTITY, HB_GPU_IDENTITY) == 0)
                status = HB_FAIL(HB_EUNSUPPORTED, "ranks %d and %d share a device, and NCCL wants one each",
                                 (int)b, (int)a);
    free(bytes);
    free(all);
    return status;
}

/* The first rank of a channel makes its name: ids [size], of pairs for each channel to a rank, and gets it to
 * the others: into [size], of pairs for each channel from a rank. */
static hb_status swap_ids(struct hb_comm *host, const struct joint *j, ncclUniqueId *ids, ncclUniqueId *into)
{
    const struct nccl *nccl;
    hb_status status = HB_GPU(nccl_load)(&nccl);
    for (int r = 0; r < j->size && status == HB_OK; r++)
        if (j->pairs ? r != j->rank : r == 0 && j->rank == 0)
            status = HB_GPU(nccl_check)(host, "making a name", nccl->get_id(&ids[r]));
    HB_TRY(hb_comm_agree(host, status));
    if (!j->pairs)
        return hb_comm_broadcast(host, 0, ids, sizeof *ids);
    size_t *bytes = static_cast<size_t *>(calloc((size_t)j->size, sizeof *bytes));
    status = hb_comm_agree(host, bytes ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for names of channels"));
    for (int r = 0; status == HB_OK && r < j->size; r++)
        bytes[r] = sizeof *ids;
    if (status == HB_OK)
        status = hb_comm_exchange(host, ids, bytes, into, bytes);
    free(bytes);
    return status;
}

static hb_status connect_all(struct hb_comm *host, struct joint *j, const ncclUniqueId *ids,
                             const ncclUniqueId *from_others)
{
    if (!j->pairs)
        return HB_GPU(channel_connect)(host, &j->channel[0], j->size, j->rank, ids);
    for (int r = 0; r < j->size; r++) {
        if (r == j->rank)
            continue;
        HB_TRY(HB_GPU(channel_connect)(host, channel_of(j, r, false), 2, 0, &ids[r]));
        HB_TRY(HB_GPU(channel_connect)(host, channel_of(j, r, true), 2, 1, &from_others[r]));
    }
    return HB_OK;
}

/* All begin, then all are waited for: ranks come to them in different order. */
static hb_status connect(struct hb_comm *host, struct joint *j)
{
    size_t n = (size_t)j->size;
    ncclUniqueId *ids = static_cast<ncclUniqueId *>(calloc(2 * n, sizeof *ids));
    hb_status status = ids ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for names of channels");
    status = hb_comm_agree(host, status);
    if (status == HB_OK)
        status = swap_ids(host, j, ids, ids + n);
    if (status == HB_OK)
        status = connect_all(host, j, ids, ids + n);
    free(ids);
    for (int i = 0; status == HB_OK && i < j->count; i++)
        if (j->channel[i].comm)
            status = HB_GPU(channel_ready)(host, &j->channel[i]);
    return status;
}

/* A byte to and from every rank, all at once: connections are made by their first use, which waits for the
 * other side. */
static hb_status greet(struct hb_comm *host, struct joint *j, char *memory)
{
    for (int i = 0; i < j->count; i++)
        if (j->channel[i].comm)
            HB_TRY(HB_GPU(channel_begin)(host, &j->channel[i], j->device));
    for (int r = 0; r < j->size; r++) {
        if (r == j->rank)
            continue;
        HB_TRY(HB_GPU(channel_send)(host, channel_of(j, r, false), rank_in_channel(j, r, false),
                                    memory + j->rank, 1));
        HB_TRY(HB_GPU(channel_receive)(host, channel_of(j, r, true), rank_in_channel(j, r, true), memory + r,
                                       1));
    }
    for (int i = 0; i < j->count; i++)
        if (j->channel[i].comm)
            HB_TRY(HB_GPU(channel_close_group)(host));
    for (int i = 0; i < j->count; i++)
        if (j->channel[i].comm)
            HB_TRY(HB_GPU(channel_note)(host, &j->channel[i]));
    for (int i = 0; i < j->count; i++)
        if (j->channel[i].comm)
            HB_TRY(HB_GPU(channel_drain)(host, &j->channel[i]));
    return HB_OK;
}

static hb_status meet(struct hb_comm *host, struct joint *j)
{
    void *memory = NULL;
    HB_TRY(connect(host, j));
    hb_status status = HB_GPU(device_alloc)(j->device, HB_MEMORY_COMMUNICATION, (size_t)j->size, &memory);
    if (status == HB_OK)
        status = HB_GPU(device_zero)(j->device, memory, (size_t)j->size);
    status = hb_comm_agree(host, status);
    if (status == HB_OK)
        status = greet(host, j, static_cast<char *>(memory));
    if (status != HB_OK)
        close_channels(j, true); /* nothing goes into the memory any more */
    hb_status freed = memory ? HB_GPU(device_free)(j->device, memory) : HB_OK;
    return status != HB_OK ? status : freed;
}

extern "C" hb_status HB_GPU(join)(struct hb_context *context, struct hb_comm *host, bool pairs,
                                  struct hb_comm **out)
{
    const struct nccl *nccl;
    unsigned char identity[HB_GPU_IDENTITY] = {0};
    struct joint *j = NULL;
    hb_status status = HB_GPU(nccl_load)(&nccl);
    if (status == HB_OK)
        status = check_memory(HB_GPU(device)(context));
    if (status == HB_OK && gpu_is_fast(context))
        status = HB_GPU(fast_start)(context);
    if (status == HB_OK)
        status = HB_GPU(device_identity)(identity);
    HB_TRY(hb_comm_agree(hb_comm_root(host), status));
    HB_TRY(check_devices(hb_comm_root(host), identity));
    status = hb_comm_agree(host, make_joint(context, host, pairs, &j));
    if (status == HB_OK)
        status = meet(host, j);
    if (status == HB_OK)
        status = hb_comm_over(host, &transport, j, out);
    if (status != HB_OK && j)
        close_joint(j, true);
    return status;
}

#else

extern "C" hb_status HB_GPU(join)(struct hb_context *, struct hb_comm *, bool, struct hb_comm **)
{
    const struct nccl *nccl;
    return HB_GPU(nccl_load)(&nccl);
}

#endif
