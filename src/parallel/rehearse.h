/* A step of one rank of a large job, rehearsed without the others: the executor runs on the backend that
 * computes nothing (parallel/hollow.h) among mirrors of itself (comm/mirror.h), and what it sends and what
 * memory it takes is counted. So a plan does not repeat the rules of reductions, gathers, messages and
 * buffers; it runs them.
 *
 * How many rows each rank gets for its experts is the router's choice. */
#ifndef HB_PARALLEL_REHEARSE_H
#define HB_PARALLEL_REHEARSE_H

#include "parallel/ranks.h"
#include "parallel/routing.h"

enum hb_rehearsed_routing {
    HB_ROUTED_EVENLY,
    HB_ROUTED_HERE,   /* the rows of all ranks come to this rank's experts: the most memory */
    HB_ROUTED_ACROSS, /* those of the others come, its own leave: the most bytes to send */
    HB_ROUTED_AS_GIVEN,
};

struct hb_rehearsal {
    int64_t messages[4], bytes[4]; /* sent in a step, by the kinds below */
    int64_t footprint[HB_FOOTPRINTS];
};
enum { HB_REHEARSED_STAGES, HB_REHEARSED_EXPERTS, HB_REHEARSED_REDUCE, HB_REHEARSED_GATHER };

/* Rank `rank` of the world of options->shape, with options->first_block given. `given` is that of the step's
 * microbatches, NULL otherwise. Messages between stages are taken at once. */
HB_MUST_USE hb_status hb_rehearse(const struct hb_model_config *config,
                                  const struct hb_ranks_options *options, int rank,
                                  enum hb_rehearsed_routing routing, const struct hb_routed *given,
                                  struct hb_rehearsal *out);

#endif
