/* What comm.c tells an observer (hb_comm_observe); without one nothing is timed. */
#ifndef HB_COMM_WATCH_H
#define HB_COMM_WATCH_H

#include "comm/transport.h"

/* Seconds of the machine's monotonic clock. */
double hb_watch_now(void);

/* Around an operation of several ranks. */
struct hb_watch {
    double begin, waited;
    int64_t messages, bytes;
};
struct hb_watch hb_watch_begin(const struct hb_comm *comm, enum hb_comm_kind kind);
void hb_watch_end(const struct hb_comm *comm, enum hb_comm_kind kind, struct hb_watch watch);

/* A message has gone that was given away as hb_watch_sent said; a wait from `begin` on is over. */
void hb_watch_sent(struct hb_comm_request *request, size_t bytes);
void hb_watch_arrived(const struct hb_comm *comm, const struct hb_comm_request *request);
void hb_watch_waited(const struct hb_comm *comm, int peer, double begin);

#endif
