/* A step of one rank of a large job, rehearsed without the others: the executor runs on the backend that
 * computes nothing (parallel/hollow.h) among mirrors of itself (comm/mirror.h), and what it sends is counted.
 * So a plan does not repeat the rules of reductions, gathers and messages; it runs them.
 *
 * Routing is even here, and rows for experts are not sent: their number is the router's choice. */
#ifndef HB_PARALLEL_REHEARSE_H
#define HB_PARALLEL_REHEARSE_H

#include "parallel/ranks.h"

struct hb_rehearsal {
    int64_t messages[3], bytes[3]; /* sent in a step: between stages, of gradients, of weights */
    int64_t gathered;              /* most bytes of gathered weights at a time, level 3 */
};
enum { HB_REHEARSED_STAGES, HB_REHEARSED_REDUCE, HB_REHEARSED_GATHER };

/* Rank `rank` of the world of options->shape, with options->first_block given. */
HB_MUST_USE hb_status hb_rehearse(const struct hb_model_config *config,
                                  const struct hb_ranks_options *options, int rank, struct hb_rehearsal *out);

#endif
