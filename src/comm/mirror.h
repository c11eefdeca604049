/* A rank without others, for counting: it believes to be rank `rank` of `size`, sends into nothing, and gets
 * from every rank what it sends to that rank. So a step runs on one rank of a large job, and its traffic is
 * counted as by a real one; what it computes means nothing.
 *
 * One that is blind copies nothing: receivers keep what their memory held, which need not even exist. */
#ifndef HB_COMM_MIRROR_H
#define HB_COMM_MIRROR_H

#include "comm/comm.h"

/* It cannot be split: who counts makes one for each group. hb_comm_destroy. */
HB_MUST_USE hb_status hb_comm_mirror(int rank, int size, const char *name, bool blind, struct hb_comm **out);

#endif
