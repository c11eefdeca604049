/* The executor: performs a rank's row of a schedule, action by action.
 *
 * A *lane* is one microbatch in one stage: its carry and its tape, alive from the
 * forward action to the last of its backward ones. All lanes share one stock of
 * buffers. What passes between stages is what the carry declares: the residual,
 * the statistics of the router that are summed over all layers; backwards the
 * gradient of the residual and the finished statistics (numerics.md rule 16).
 *
 * A rank without a microbatch in the last round works on one without rows: it
 * takes part in everything, and its leaves are thrown away. */
#ifndef HB_PARALLEL_EXECUTOR_H
#define HB_PARALLEL_EXECUTOR_H

#include "parallel/footprint.h"
#include "parallel/reduce.h"
#include "parallel/results.h"
#include "parallel/schedule.h"
#include "parallel/timeline.h"

/* How the blocks are cut into stages, and where those live. */
struct hb_stages {
    int count;
    int64_t *first_block; /* [count + 1], owned */
    int *rank_of;         /* [count], ranks of the pipe; owned */
};

/* Of every microbatch: as struct hb_carry has them. */
struct hb_factors {
    float loss, aux, z;
};

struct hb_lane;

struct hb_executor {
    struct hb_context *context;
    struct hb_model *model;
    const struct hb_mesh *mesh;
    const struct hb_schedule *schedule;
    const struct hb_stages *stages;
    struct hb_sharding *sharding;
    struct hb_reducer *reducer;
    struct hb_gradients *gradients;
    struct hb_exchange *exchange; /* NULL: all experts are here */
    struct hb_timeline *timeline; /* NULL: none; may be set at any time */
    int64_t tokens;               /* rows of a microbatch, at most */
    struct hb_tensor extremes;    /* where tapes count (tape/tape.h); data NULL: nowhere; may be set */
    struct hb_pool pool;
    struct hb_lane **lanes;  /* [stages * rounds], NULL: not alive */
    struct hb_lane *idle;
    struct hb_outgoing *outgoing; /* messages on their way */
    int64_t message_bytes, message_peak; /* of messages that are made, sent and received; in the last step */
    int64_t next_block;           /* where the action after this one begins; -1: none */
    /* of the step that runs */
    int64_t microbatches;
    const struct hb_batch *batches;
    struct hb_factors factors;
    struct hb_step_results results;
};

/* The caller has filled in everything down to `tokens`. */
HB_MUST_USE hb_status hb_executor_init(struct hb_executor *executor);
void hb_executor_release(struct hb_executor *executor);

/* One step of M microbatches, of which `batches` has this rank's: all gradients
 * are in the reducer afterwards. Collective: world. */
HB_MUST_USE hb_status hb_executor_step(struct hb_executor *executor, const struct hb_batch *batches,
                                       int64_t M, struct hb_factors factors);

/* Reads the results of the step, the only place where the host waits for them, and gathers those of all
 * ranks. Collective: world. */
HB_MUST_USE hb_status hb_executor_report(struct hb_executor *executor);

/* Forward only: the sum of the cross-entropy of each of `count` microbatches, of
 * which round-robin each data rank does its own. Collective: world. */
HB_MUST_USE hb_status hb_executor_evaluate(struct hb_executor *executor, const struct hb_batch *batches,
                                           int64_t count, double *sums);

/* Most bytes in use in the last step: gathered, activations, fold, exchange, messages. */
void hb_executor_footprint(const struct hb_executor *executor, int64_t bytes[HB_FOOTPRINTS]);

#endif
