/* What carries the bytes: one table per library below. comm.c builds everything else on it. */
#ifndef HB_COMM_TRANSPORT_H
#define HB_COMM_TRANSPORT_H

#include "comm/comm.h"

/* The end of a job in which a rank has failed, over all communicators of this process. */
struct hb_transport_ending {
    /* A message of any rank on a lane of the world that has come: into `data`, `from` -1 if none has. */
    hb_status (*hear)(struct hb_comm *world, int lane, void *data, size_t bytes, int *from);
    /* Takes in and throws away what has come on the other lanes and nobody waits for. */
    hb_status (*discard)(void);
    /* How many sends of this rank have not gone yet. */
    hb_status (*open_sends)(int *count);
    /* Nothing will come into the memory of receives any more. */
    hb_status (*give_up_receives)(void);
};

/* Of a transport of messages in the memory of a device (comm/over.h). */
struct hb_transport_device {
    /* What is sent and received between them is one operation: no part waits for another. */
    hb_status (*begin)(struct hb_comm *comm);
    hb_status (*end)(struct hb_comm *comm);
    hb_status (*copy)(struct hb_comm *comm, void *to, const void *from, size_t bytes);
    /* Nothing may be under way any more, and nothing else will be asked for but `destroy`. */
    void (*give_up)(struct hb_comm *comm);
};

struct hb_transport {
    const char *name;
    hb_status (*send)(struct hb_comm *comm, int to, int lane, const void *data, size_t bytes,
                      struct hb_comm_request *request);
    hb_status (*receive)(struct hb_comm *comm, int from, int lane, void *data, size_t bytes,
                         struct hb_comm_request *request);
    /* Sets request->done when the message has gone or come. */
    hb_status (*test)(struct hb_comm *comm, struct hb_comm_request *request);
    void (*progress)(struct hb_comm *comm); /* NULL: messages move by themselves */
    /* Or NULL: everything that was waited for is through, its memory may go. */
    void (*settle)(struct hb_comm *comm);
    /* For comm/alarm.c; NULL where no rank can fail alone. */
    const struct hb_transport_ending *ending;
    const struct hb_transport_device *device; /* NULL: messages lie in the host's memory */
    hb_status (*split)(struct hb_comm *parent, int64_t color, int64_t key, struct hb_comm *out);
    void (*destroy)(struct hb_comm *comm);
    void (*abort)(struct hb_comm *comm, int code);
};

/* Messages between two ranks, those inside collectives, and those of comm/alarm.c do not meet. */
enum { HB_LANE_MESSAGES, HB_LANE_COLLECTIVES, HB_LANE_NOTICES };

enum { HB_COMM_NAME = 24 };

struct hb_comm {
    const struct hb_transport *transport;
    char name[HB_COMM_NAME];
    int rank, size;
    bool blind; /* moves nothing, not even to itself (comm/mirror.h) */
    int *world_rank; /* [size], owned; NULL: the world itself */
    struct hb_comm *host; /* NULL, or whose ranks these are: it owns world_rank and counts (comm/over.h) */
    struct hb_comm *parent; /* that it was split from; NULL: the world */
    struct hb_comm_traffic traffic;
    uint64_t handle; /* the transport's own */
    struct hb_comm *next; /* of the transport's list, if it keeps one */
};

/* What it counts in. */
static inline struct hb_comm_traffic *hb_comm_count(struct hb_comm *comm)
{
    return comm->host ? &comm->host->traffic : &comm->traffic;
}

/* For a transport: waits until `look` says done, as others wait for messages: gives way, hears of failures,
 * ends after the time-out. */
HB_MUST_USE hb_status hb_comm_until(const struct hb_comm *comm, hb_status (*look)(void *state, bool *done),
                                    void *state);

/* mpi.c: HB_EUNSUPPORTED in a build without MPI. */
HB_MUST_USE hb_status hb_mpi_world(struct hb_comm **out);
const char *hb_mpi_library(void);

#endif
