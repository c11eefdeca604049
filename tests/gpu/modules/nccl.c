/* What takes NCCL's place on the emulated device, for tests: the functions that src/gpu/channel.cu calls,
 * between processes of one machine, through shared memory. It is as strict as NCCL may be: a send ends when
 * the receiver has taken everything; operations of a communicator follow each other on its stream; nothing
 * moves before both sides have met for the first time; no call is allowed before the last was taken, and no
 * end of a communicator inside of a group.
 *
 * STAND_IN_FAILS=N in the environment: the N-th group fails; STAND_IN_REFUSES=N: the N-th send or receive. */
#include "gpu/nccl_emulated.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK = 1500 };

/* From one rank to another one. */
struct slot {
    _Atomic int met[2]; /* the sender has come, the receiver has */
    _Atomic uint64_t written, read;
    char data[CHUNK];
};

struct board {
    _Atomic int joined;
    struct slot slot[]; /* [ranks * ranks], of sender * ranks + receiver */
};

struct operation {
    bool receives, ended;
    char *data;
    size_t count, at;
    struct slot *slot;
};

enum { OPERATIONS = 64 };
struct work {
    ncclComm_t comm;
    cudaStream_t stream;
    int count;
    struct operation operation[OPERATIONS];
    struct work *next;
};

struct ncclComm {
    int ranks, rank, users; /* the owner, and work under way */
    bool aborted;
    char name[64];
    size_t bytes;
    struct board *board;
    struct work *waiting; /* for the other side to meet; at most one */
};

static int depth, groups, operations;
static struct work *asked_for; /* in the group that is open */

/* --- life --- */

ncclResult_t ncclGetVersion(int *version)
{
    *version = 21400;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const text[] = {"success",        "unhandled cuda error", "system error",
                                       "internal error", "invalid argument",     "invalid usage",
                                       "remote error",   "in progress"};
    return text[result];
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int made;
    snprintf(id->internal, sizeof id->internal, "/hornbook-nccl-%d-%d", (int)getpid(), made++);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    if (config->blocking != 0 || ranks > OPERATIONS / 2)
        return ncclInvalidArgument;
    ncclComm_t comm = calloc(1, sizeof *comm);
    if (!comm)
        return ncclSystemError;
    comm->ranks = ranks;
    comm->rank = rank;
    comm->users = 1;
    comm->bytes = sizeof(struct board) + (size_t)(ranks * ranks) * sizeof(struct slot);
    memcpy(comm->name, id.internal, sizeof comm->name);
    int file = shm_open(comm->name, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, (off_t)comm->bytes) != 0)
        return ncclSystemError;
    comm->board = mmap(NULL, comm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (comm->board == MAP_FAILED)
        return ncclSystemError;
    if (atomic_fetch_add(&comm->board->joined, 1) == ranks - 1)
        shm_unlink(comm->name); /* the last one: all have it open */
    *out = comm;
    return ncclInProgress;
}

static void leave(ncclComm_t comm)
{
    if (--comm->users)
        return;
    munmap(comm->board, comm->bytes);
    free(comm);
}

static void end_inside(void)
{
    if (depth == 0)
        return;
    fprintf(stderr, "stand-in for NCCL: a communicator is ended inside of a group\n");
    abort();
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    end_inside();
    comm->aborted = true;
    if (atomic_load(&comm->board->joined) < comm->ranks)
        shm_unlink(comm->name);
    if (comm->waiting) {
        free(comm->waiting);
        comm->waiting = NULL;
        comm->users--;
    }
    leave(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    end_inside();
    if (comm->users > 1) {
        fprintf(stderr, "stand-in for NCCL: a communicator is destroyed while messages are under way\n");
        abort();
    }
    leave(comm);
    return ncclSuccess;
}

/* --- work on a stream --- */

static hb_status move(struct hb_emulator *device, struct operation *o)
{
    struct slot *slot = o->slot;
    uint64_t written = atomic_load(&slot->written), read = atomic_load(&slot->read);
    size_t n = o->count - o->at < CHUNK ? o->count - o->at : CHUNK;
    if (o->receives && written > read && o->at < o->count) {
        if (written - read != n)
            return HB_FAIL(HB_EINTERNAL,
                           "stand-in for NCCL: a receive of %zu bytes meets a send of other size", o->count);
        HB_TRY(hb_emulator_copy_in(device, o->data + o->at, slot->data, n));
        o->at += n;
        atomic_store(&slot->read, written);
    } else if (!o->receives && written == read && o->at < o->count) {
        HB_TRY(hb_emulator_copy_out(device, slot->data, o->data + o->at, n));
        o->at += n;
        atomic_store(&slot->written, written + n);
    }
    o->ended = o->at == o->count && (o->receives || atomic_load(&slot->read) == atomic_load(&slot->written));
    return HB_OK;
}

static hb_status go_on(void *state, bool *done)
{
    struct work *w = state;
    *done = true;
    for (int i = 0; i < w->count && !w->comm->aborted; i++) {
        struct operation *o = &w->operation[i];
        /* one behind the other between two ranks */
        bool turn = !o->ended;
        for (int k = 0; k < i; k++)
            turn = turn && (w->operation[k].slot != o->slot || w->operation[k].ended);
        if (turn)
            HB_TRY(move(hb_emulator_queue_device(w->stream), o));
        *done = *done && o->ended;
    }
    return HB_OK;
}

static void release(void *state)
{
    struct work *w = state;
    leave(w->comm);
    free(w);
}

/* Have both sides of every operation met? */
static bool have_met(const struct work *w)
{
    for (int i = 0; i < w->count; i++)
        if (!atomic_load(&w->operation[i].slot->met[0]) || !atomic_load(&w->operation[i].slot->met[1]))
            return false;
    return true;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = ncclSuccess;
    struct work *w = comm->waiting;
    if (atomic_load(&comm->board->joined) < comm->ranks || (w && !have_met(w))) {
        *error = ncclInProgress;
    } else if (w) {
        comm->waiting = NULL;
        if (hb_emulator_queue_add(w->stream, (struct hb_emulator_work){go_on, release, w}) != HB_OK)
            *error = ncclSystemError;
    }
    return ncclSuccess;
}

/* --- asking --- */

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    const char *fails = getenv("STAND_IN_FAILS");
    if (--depth)
        return ncclSuccess;
    if (fails && ++groups == atoi(fails))
        return ncclSystemError;
    while (asked_for) {
        struct work *w = asked_for;
        asked_for = w->next;
        if (w->comm->waiting) /* the last call has not been taken */
            return ncclInvalidUsage;
        w->comm->waiting = w;
        for (int i = 0; i < w->count; i++)
            atomic_store(&w->operation[i].slot->met[w->operation[i].receives], 1);
    }
    return ncclInProgress;
}

static ncclResult_t ask(ncclComm_t comm, cudaStream_t stream, int from, int to, struct operation o)
{
    const char *refuses = getenv("STAND_IN_REFUSES");
    if (refuses && ++operations == atoi(refuses))
        return ncclSystemError;
    struct work *w = asked_for;
    while (w && w->comm != comm)
        w = w->next;
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w || atomic_load(&comm->board->joined) < comm->ranks || depth == 0) {
            free(w);
            return ncclInvalidUsage;
        }
        w->comm = comm;
        w->stream = stream;
        w->next = asked_for;
        asked_for = w;
        comm->users++;
    }
    if (w->count == OPERATIONS || w->stream != stream || from == to || from < 0 || to < 0 ||
        from >= comm->ranks || to >= comm->ranks)
        return ncclInvalidArgument;
    o.slot = &comm->board->slot[from * comm->ranks + to];
    w->operation[w->count++] = o;
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    if (type != ncclInt8)
        return ncclInvalidArgument;
    return ask(comm, stream, comm->rank, peer,
               (struct operation){.data = (char *)(uintptr_t)data, .count = count});
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    if (type != ncclInt8)
        return ncclInvalidArgument;
    return ask(comm, stream, peer, comm->rank,
               (struct operation){.receives = true, .data = data, .count = count});
}
