/* Ranks that exchange bytes.
 *
 * A communicator moves bytes, takes maxima and adds integers. It never adds
 * floating-point numbers: where values of several ranks become one, the receiver
 * adds them in the order of docs/numerics.md. So no result depends on how many
 * ranks there are or which library carries the bytes.
 *
 * Everything is host memory, but for what communicators made by a backend (ops/backend.h, join) send and
 * receive, exchange and gather: that is memory of the backend. Ranks are numbered 0 .. size - 1. "Collective"
 * functions are called by all ranks of the communicator, in the same order. A
 * rank alone does them by copying, and nothing is counted.
 *
 * An error here, but for those that hb_comm_agree brings, means that the
 * communicators are of no use any more: another rank has failed, a peer did not
 * answer in time, or the library below failed. Nothing is under way then, and
 * every later operation gives the same error. The job must end (hb_comm_fail). */
#ifndef HB_COMM_COMM_H
#define HB_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct hb_comm;

/* What is counted: by kind of operation. */
enum hb_comm_kind {
    HB_COMM_MESSAGE,   /* send and receive between two ranks */
    HB_COMM_EXCHANGE,  /* all to all */
    HB_COMM_GATHER,    /* all gather */
    HB_COMM_BROADCAST, /* one to all */
    HB_COMM_AGREE,     /* maxima and sums of integers, barriers */
    HB_COMM_KINDS
};
const char *hb_comm_kind_name(enum hb_comm_kind kind);

/* Of one rank: calls, messages that it sent, bytes that it sent to others. */
struct hb_comm_traffic {
    int64_t calls[HB_COMM_KINDS], messages[HB_COMM_KINDS], bytes[HB_COMM_KINDS];
    double waited; /* seconds that it waited for others */
};

/* A message on its way. `peer` < 0: nothing under way. */
struct hb_comm_request {
    int peer;
    bool done, receives;
    uint64_t handle[2]; /* the transport's own */
    double begin;       /* of a message that an observer wants to know of; 0: of no other */
    int64_t bytes;
};

/* --- life --- */

/* One rank. Not collective. */
HB_MUST_USE hb_status hb_comm_self(struct hb_comm **out);
/* All ranks of the job that this process was started in (mpiexec, srun), or one
 * rank. HB_EUNSUPPORTED when there are others and the program was built without
 * MPI. Collective: all processes of the job. */
HB_MUST_USE hb_status hb_comm_world(struct hb_comm **out);
/* The ranks with the same `color`, ordered by `key`; `name` ("experts") is for
 * messages. Collective: parent, which must outlive it. */
HB_MUST_USE hb_status hb_comm_split(struct hb_comm *parent, int64_t color, int64_t key, const char *name,
                                    struct hb_comm **out);
/* The world that it was split from. */
struct hb_comm *hb_comm_root(struct hb_comm *comm);
/* Not collective. NULL is allowed. The world's ends the use of the transport. */
void hb_comm_destroy(struct hb_comm *comm);
/* A rank that has failed, `status`, tells all others, which then fail in what they wait for: nobody waits
 * for messages that will never come. Returns when all have come here and nothing is under way: their memory
 * and the communicators may be released, and hb_error() says on every rank which one failed and why. Where an
 * operation above failed because of another rank, this has been done. `status` HB_OK: nothing happens.
 * Collective: world, in effect. */
HB_MUST_USE hb_status hb_comm_fail(struct hb_comm *world, hb_status status);
/* After it: false when some rank did not come in time. Memory that messages may still go to must stay then,
 * and only hb_comm_abort is left. */
bool hb_comm_is_whole(void);
/* After it: is this the one rank that is to print the message? */
bool hb_comm_speaks(void);
/* Ends all processes of the job at once. */
void hb_comm_abort(struct hb_comm *world, int code);

/* Was this process started as one of several ranks? */
bool hb_comm_is_parallel(void);
/* Ranks on this machine, as far as the launcher says; at least 1. The number of this one among them. */
int hb_comm_local_ranks(void);
int hb_comm_local_rank(void);
/* "MPICH 4.0.2", or "none: built without MPI". */
const char *hb_comm_library(void);

int hb_comm_rank(const struct hb_comm *comm);
int hb_comm_size(const struct hb_comm *comm);
/* The number of rank `rank` in the world. */
int hb_comm_world_rank(const struct hb_comm *comm, int rank);

/* Seconds after which waiting for a peer is an error; 0: never. Of all communicators. */
void hb_comm_set_timeout(double seconds);

/* Counted since the start, over all communicators of the process, or by one. */
struct hb_comm_traffic hb_comm_traffic(const struct hb_comm *comm);

/* What an observer is told, when it is over. */
enum hb_comm_what {
    HB_COMM_COLLECTIVE, /* an operation of all ranks of a group, of which it waited so long */
    HB_COMM_SENT,       /* a message, from the send until it was seen to have gone */
    HB_COMM_WAITED      /* a wait for messages, if it did not end at once */
};
struct hb_comm_event {
    const char *group; /* the communicator's name */
    enum hb_comm_what what;
    enum hb_comm_kind kind;
    int peer;      /* of a message or a wait: a rank of the world; else -1 */
    int64_t messages, bytes; /* that this rank sent to others */
    double begin, end, waited; /* seconds, of the machine's monotonic clock */
};
/* From now on `observe` is called for all communicators of the process that have several ranks; NULL: for
 * none. */
void hb_comm_observe(void (*observe)(void *context, const struct hb_comm_event *event), void *context);

/* --- two ranks --- */

/* Both return at once; the memory stays as it is until the wait. Messages from
 * one rank to another arrive in the order in which they were sent. */
HB_MUST_USE hb_status hb_comm_send(struct hb_comm *comm, int to, const void *data, size_t bytes,
                                   struct hb_comm_request *request);
HB_MUST_USE hb_status hb_comm_receive(struct hb_comm *comm, int from, void *data, size_t bytes,
                                      struct hb_comm_request *request);
/* After the time-out HB_EIO names the ranks that do not answer. */
HB_MUST_USE hb_status hb_comm_wait(struct hb_comm *comm, struct hb_comm_request *requests, int64_t count);

/* Looks whether the message is through: request->done. */
HB_MUST_USE hb_status hb_comm_test(struct hb_comm *comm, struct hb_comm_request *request);

/* Lets messages of any communicator move on: a long one moves only while both ends
 * are inside of the library below. To be called between pieces of work, cheap
 * enough for every millisecond. What fails comes back at the wait. */
void hb_comm_progress(struct hb_comm *comm);

/* --- all ranks; collective --- */

/* send: for rank 0, 1, ... one behind the other, send_bytes[r] each; recv
 * likewise from each rank. They do not overlap. */
HB_MUST_USE hb_status hb_comm_exchange(struct hb_comm *comm, const void *send, const size_t *send_bytes,
                                       void *recv, const size_t *recv_bytes);
/* recv: bytes[0] of rank 0, bytes[1] of rank 1, ...; `send` has bytes[own rank],
 * and may be its place in recv. */
HB_MUST_USE hb_status hb_comm_gather(struct hb_comm *comm, const void *send, void *recv, const size_t *bytes);
/* The same in two halves, between which the rank does other things, also other
 * operations of this communicator: all ranks begin and do them in the same order.
 * `send` and `recv` stay as they are until the end, or until hb_comm_fail has
 * returned; hb_comm_drop is for those that then have no end. */
struct hb_comm_pending {
    struct hb_comm_request *requests; /* owned, until the end */
    int64_t count, messages, bytes;
};
HB_MUST_USE hb_status hb_comm_gather_begin(struct hb_comm *comm, const void *send, void *recv,
                                           const size_t *bytes, struct hb_comm_pending *pending);
HB_MUST_USE hb_status hb_comm_gather_end(struct hb_comm *comm, struct hb_comm_pending *pending);
void hb_comm_drop(struct hb_comm_pending *pending);
HB_MUST_USE hb_status hb_comm_broadcast(struct hb_comm *comm, int root, void *data, size_t bytes);
/* In place, element by element. */
HB_MUST_USE hb_status hb_comm_max(struct hb_comm *comm, int64_t *values, int64_t count);
HB_MUST_USE hb_status hb_comm_sum(struct hb_comm *comm, int64_t *values, int64_t count);

/* Agrees on an error: every rank passes its own status, all get HB_OK or all get
 * an error; who had none says which rank failed and with what message. */
HB_MUST_USE hb_status hb_comm_agree(struct hb_comm *comm, hb_status status);

#endif
