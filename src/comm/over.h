/* Communicators whose messages another library carries than the world's: in the memory of a device. */
#ifndef HB_COMM_OVER_H
#define HB_COMM_OVER_H

#include "comm/transport.h"

/* The ranks of `host`, which outlives it, in the same order and under the same name; what it moves is counted
 * with `host`. The transport has a `device` part, and `handle` is its own, also when this fails. */
HB_MUST_USE hb_status hb_comm_over(struct hb_comm *host, const struct hb_transport *transport, void *handle,
                                   struct hb_comm **out);
/* For hb_comm_destroy. */
void hb_over_forget(struct hb_comm *comm);

/* Lets the messages of all of them move on. */
void hb_over_progress(void);
/* A rank has failed: nothing of theirs may be under way any more. */
void hb_over_give_up(void);

#endif
