/* The transport over MPI: the only file that knows it. Uses MPI's messages
 * alone; its reductions could add in another order on another number of ranks.
 *
 * Called from one thread. A message larger than an int can count goes in pieces. */
#include "comm/transport.h"

#ifdef HB_HAVE_MPI

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(MPI_Comm) <= sizeof(uint64_t) && sizeof(MPI_Request) <= sizeof(uint64_t),
               "handles of MPI must fit into ours");
enum { PIECE = 1 << 30 };

static MPI_Comm comm_of(const struct hb_comm *comm)
{
    MPI_Comm handle;
    memcpy(&handle, &comm->handle, sizeof handle);
    return handle;
}

static hb_status check(int code, const struct hb_comm *comm, const char *what)
{
    if (code == MPI_SUCCESS)
        return HB_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(code, text, &length);
    return HB_FAIL(HB_EIO, "MPI: %s in group %s failed on rank %d: %s", what, comm->name,
                   hb_comm_world_rank(comm, comm->rank), text);
}

/* A message: MPI keeps the order of its pieces. All that are under way are in a list. */
struct pieces {
    struct pieces *next, *previous;
    bool receives;
    int count;
    MPI_Request request[];
};
static struct pieces under_way = {.next = &under_way, .previous = &under_way};

static void remove_pieces(struct pieces *p)
{
    p->previous->next = p->next;
    p->next->previous = p->previous;
    free(p);
}

static hb_status start(struct hb_comm *comm, int peer, int lane, char *data, size_t bytes, bool receives,
                       struct hb_comm_request *request)
{
    int count = (int)((bytes + PIECE - 1) / PIECE);
    struct pieces *pieces = malloc(sizeof *pieces + (size_t)(count ? count : 1) * sizeof pieces->request[0]);
    if (!pieces)
        return HB_FAIL(HB_EMEMORY, "out of memory for a message");
    *pieces = (struct pieces){&under_way, under_way.previous, receives, count ? count : 1};
    for (int i = 0; i < pieces->count; i++)
        pieces->request[i] = MPI_REQUEST_NULL;
    pieces->previous->next = pieces;
    under_way.previous = pieces;
    for (int i = 0; i < pieces->count; i++) {
        size_t begin = (size_t)i * PIECE, rest = bytes - begin;
        int n = (int)(rest < PIECE ? rest : PIECE);
        int code = receives
                       ? MPI_Irecv(data + begin, n, MPI_BYTE, peer, lane, comm_of(comm), &pieces->request[i])
                       : MPI_Isend(data + begin, n, MPI_BYTE, peer, lane, comm_of(comm), &pieces->request[i]);
        HB_TRY(check(code, comm, receives ? "a receive" : "a send"));
    }
    memcpy(request->handle, &pieces, sizeof pieces);
    return HB_OK;
}

static hb_status mpi_send(struct hb_comm *comm, int to, int lane, const void *data, size_t bytes,
                          struct hb_comm_request *request)
{
    return start(comm, to, lane, (char *)(uintptr_t)data, bytes, false, request);
}

static hb_status mpi_receive(struct hb_comm *comm, int from, int lane, void *data, size_t bytes,
                             struct hb_comm_request *request)
{
    return start(comm, from, lane, data, bytes, true, request);
}

static hb_status mpi_test(struct hb_comm *comm, struct hb_comm_request *request)
{
    struct pieces *pieces;
    int flag = 1;
    memcpy(&pieces, request->handle, sizeof pieces);
    for (int i = 0; i < pieces->count && flag; i++) { /* one that is done is null and stays done */
        MPI_Status status;
        HB_TRY(check(MPI_Test(&pieces->request[i], &flag, &status), comm,
                     request->receives ? "a receive" : "a send"));
    }
    if (flag) {
        request->done = true;
        remove_pieces(pieces);
    }
    return HB_OK;
}

/* MPI moves messages while it is called: a look for a notice, which stays where it is. */
static void mpi_progress(struct hb_comm *comm)
{
    int flag;
    MPI_Iprobe(MPI_ANY_SOURCE, HB_LANE_NOTICES, comm_of(comm), &flag, MPI_STATUS_IGNORE);
}

static struct hb_comm *all; /* communicators that live */

static hb_status adopt(struct hb_comm *comm, MPI_Comm handle)
{
    comm->next = all;
    all = comm;
    MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN);
    MPI_Comm_rank(handle, &comm->rank);
    MPI_Comm_size(handle, &comm->size);
    memcpy(&comm->handle, &handle, sizeof handle);
    return HB_OK;
}

static hb_status mpi_split(struct hb_comm *parent, int64_t color, int64_t key, struct hb_comm *out)
{
    MPI_Comm handle;
    HB_TRY(check(MPI_Comm_split(comm_of(parent), (int)color, (int)key, &handle), parent, "a split"));
    return adopt(out, handle);
}

static void mpi_destroy(struct hb_comm *comm)
{
    MPI_Comm handle = comm_of(comm);
    for (struct hb_comm **at = &all; *at; at = &(*at)->next)
        if (*at == comm) {
            *at = comm->next;
            break;
        }
    if (handle == MPI_COMM_WORLD) {
        /* MPI_Finalize may wait for what a peer has to confirm and that one, already further inside of it,
         * does not look any more (seen over TCP): a barrier makes all look once more. */
        MPI_Barrier(handle);
        MPI_Finalize();
    } else {
        MPI_Comm_free(&handle);
    }
}

static void mpi_abort(struct hb_comm *comm, int code)
{
    MPI_Abort(comm_of(comm), code);
}

/* --- the end, when a rank has failed --- */

static hb_status hear(struct hb_comm *world, int lane, void *data, size_t bytes, int *from)
{
    MPI_Message message;
    MPI_Status status;
    int flag;
    *from = -1;
    HB_TRY(check(MPI_Improbe(MPI_ANY_SOURCE, lane, comm_of(world), &flag, &message, &status), world,
                 "a probe"));
    if (!flag)
        return HB_OK;
    HB_TRY(check(MPI_Mrecv(data, (int)bytes, MPI_BYTE, &message, &status), world, "a receive"));
    *from = status.MPI_SOURCE;
    return HB_OK;
}

/* A message whose sender waits for it to be taken. There is memory for one of its size, or the job ends
 * without this rank. */
static hb_status discard_one(struct hb_comm *comm, int lane, int *flag)
{
    MPI_Message message;
    MPI_Status status;
    int count;
    HB_TRY(check(MPI_Improbe(MPI_ANY_SOURCE, lane, comm_of(comm), flag, &message, &status), comm, "a probe"));
    if (!*flag)
        return HB_OK;
    MPI_Get_count(&status, MPI_BYTE, &count);
    void *memory = malloc((size_t)count + 1);
    if (!memory)
        return HB_FAIL(HB_EMEMORY, "out of memory for a message that nobody wants");
    int code = MPI_Mrecv(memory, count, MPI_BYTE, &message, &status);
    free(memory);
    return check(code, comm, "a receive");
}

static hb_status discard(void)
{
    for (struct hb_comm *comm = all; comm; comm = comm->next)
        for (int lane = 0; lane < HB_LANE_NOTICES; lane++)
            for (int flag = 1; flag;)
                HB_TRY(discard_one(comm, lane, &flag));
    return HB_OK;
}

/* Whoever sent them will not look again. */
static hb_status open_sends(int *count)
{
    *count = 0;
    for (struct pieces *p = under_way.next; p != &under_way; p = p->next) {
        int flag = 1;
        for (int i = 0; i < p->count && flag && !p->receives; i++)
            HB_TRY(check(MPI_Test(&p->request[i], &flag, MPI_STATUS_IGNORE), all, "a send"));
        *count += !flag;
    }
    return HB_OK;
}

static hb_status give_up_receives(void)
{
    while (under_way.next != &under_way) {
        struct pieces *p = under_way.next;
        for (int i = 0; i < p->count; i++)
            if (p->request[i] != MPI_REQUEST_NULL) {
                MPI_Cancel(&p->request[i]);
                HB_TRY(check(MPI_Wait(&p->request[i], MPI_STATUS_IGNORE), all, "a receive"));
            }
        remove_pieces(p);
    }
    return HB_OK;
}

static const struct hb_transport_ending ending = {hear, discard, open_sends, give_up_receives};

static const struct hb_transport mpi = {
    .name = "MPI",
    .send = mpi_send,
    .receive = mpi_receive,
    .test = mpi_test,
    .progress = mpi_progress,
    .split = mpi_split,
    .destroy = mpi_destroy,
    .abort = mpi_abort,
    .ending = &ending,
};

hb_status hb_mpi_world(struct hb_comm **out)
{
    int given, started;
    struct hb_comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return HB_FAIL(HB_EMEMORY, "out of memory for a communicator");
    comm->transport = &mpi;
    snprintf(comm->name, sizeof comm->name, "world");
    MPI_Initialized(&started);
    hb_status status = HB_OK;
    if (!started)
        status = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given), comm, "the start");
    if (status == HB_OK)
        status = adopt(comm, MPI_COMM_WORLD);
    if (status != HB_OK) {
        free(comm);
        return status;
    }
    *out = comm;
    return HB_OK;
}

const char *hb_mpi_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(text, &length);
    /* "MPICH Version:\t4.0.2\n..." becomes "MPICH Version: 4.0.2" */
    text[strcspn(text, "\n,")] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\t')
            *c = ' ';
    return text;
}

#else

hb_status hb_mpi_world(struct hb_comm **out)
{
    *out = NULL;
    return HB_FAIL(
        HB_EUNSUPPORTED,
        "this program was built without MPI and can only run as one rank; install the Debian package "
        "libmpich-dev and configure again, or start it without mpiexec");
}

const char *hb_mpi_library(void)
{
    return "none: built without MPI";
}

#endif
