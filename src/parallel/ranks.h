/* A rank of several: its place, its part of the model, and what it runs.
 *
 *   hb_ranks_open      mesh, schedule, which blocks and experts are here
 *   hb_ranks_attach    who carries its tensors, and their shards: before its memory is made
 *   hb_ranks_start     fold, exchange, executor: afterwards steps can run
 *   hb_ranks_close
 *
 * Between open and start the caller makes the model (hb_model_outline with
 * ranks->part, hb_model_allocate). */
#ifndef HB_PARALLEL_RANKS_H
#define HB_PARALLEL_RANKS_H

#include "parallel/block_costs.h"
#include "parallel/exchange.h"
#include "parallel/executor.h"

struct hb_ranks_options {
    struct hb_mesh_shape shape;
    int zero;             /* 0 .. 3 */
    const char *schedule; /* a name or a file (parallel/schedule.h) */
    int64_t microbatches; /* M of a step */
    struct hb_recompute recompute;
    int64_t sequences, length;  /* of a microbatch; tokens of a sequence */
    const struct hb_block_costs *costs; /* by which stages are cut; NULL: counted FLOPs */
    const int64_t *first_block; /* where stages begin, as hb_cut_stages says; NULL: it is asked */
    enum hb_transport_choice transport;
    bool mirrored;              /* the world is a mirror: a rehearsal (parallel/rehearse.h) */
};

struct hb_ranks {
    struct hb_mesh mesh;
    struct hb_ranks_options options;
    struct hb_schedule schedule;
    struct hb_stages stages;
    bool *blocks; /* [L + 2] */
    struct hb_model_part part;
    struct hb_model *model;
    struct hb_sharding sharding;
    struct hb_gradients gradients;
    struct hb_reducer reducer;
    struct hb_expert_exchange exchange;
    struct hb_executor executor;
};

/* HB_EARGUMENT says what does not fit. Collective: world. */
HB_MUST_USE hb_status hb_ranks_open(struct hb_ranks *ranks, struct hb_comm *world,
                                    const struct hb_ranks_options *options,
                                    const struct hb_model_config *config);
/* Collective: world. */
HB_MUST_USE hb_status hb_ranks_attach(struct hb_ranks *ranks, struct hb_model *model);
/* For microbatches of up to `tokens` rows. */
HB_MUST_USE hb_status hb_ranks_start(struct hb_ranks *ranks, int64_t tokens);
void hb_ranks_close(struct hb_ranks *ranks);

/* Which microbatches of a step are this rank's: wanted [M]. */
void hb_ranks_wanted(const struct hb_ranks *ranks, bool *wanted);

/* After an update: the new weights to all who use them (levels 1 and 2; at level
 * 3 they are gathered when needed). Collective: world. */
HB_MUST_USE hb_status hb_ranks_spread(struct hb_ranks *ranks);

#endif
