/* The trainer: from a run configuration to a trained model, step by step, with
 * evaluation, metrics and checkpoints.
 *
 *   hb_trainer_create   opens everything the configuration names, takes the
 *                       lock of the run folder, resumes if asked to
 *   hb_trainer_run      steps until the last one or until *stop
 *   hb_trainer_destroy
 *
 * With several ranks (config->world) all functions are collective: world. Where
 * one rank fails all do, with one message (hb_comm_fail).
 *
 * A run folder belongs to one process at a time. Whatever happens after a
 * checkpoint was written, that checkpoint stays whole. */
#ifndef HB_TRAIN_TRAINER_H
#define HB_TRAIN_TRAINER_H

#include <signal.h>

#include "data/stream.h"
#include "data/tokenizer.h"
#include "train/batches.h"
#include "train/metrics.h"
#include "train/run_config.h"
#include "train/run_timeline.h"
#include "train/run_trace.h"
#include "train/step.h"

struct hb_trainer {
    struct hb_run_config *config; /* the caller's, alive until destroy */
    bool chief; /* the rank that writes: 0 */
    struct hb_ranks ranks; /* zero of one rank */
    struct hb_block_costs costs; /* zero without parallel.costs */
    bool *wanted;          /* [M] this rank's microbatches; NULL: all */
    int lock;
    struct hb_context context;
    struct hb_tokenizer *tokenizer;
    struct hb_stream *train, *held_out; /* held_out NULL: no evaluation */
    struct hb_model *model;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
    struct hb_batches batches;
    struct hb_scaler scaler;
    struct hb_spikes spikes; /* off without a rule */
    struct hb_faults faults;
    int64_t skips; /* steps in a row, up to the last one, whose update was skipped or not finite */
    struct hb_metrics metrics;
    struct hb_expert_lines experts; /* file NULL: a dense model, or another rank's */
    struct hb_run_trace *trace; /* NULL: none */
    struct hb_timeline *timeline; /* NULL: none, or no longer */
    struct hb_timeline_totals timeline_totals; /* of all ranks, after run */
    int64_t attempted, tokens; /* steps and tokens so far */
    int64_t resumed_from;      /* step of the checkpoint, 0: fresh */
    int64_t saved_at;          /* step of the last checkpoint, -1: none */
    char digest[HB_DIGEST_TEXT + 1]; /* the last one made */
    int64_t activation_bytes; /* the most that a step's activations took */
    double loss, held_out_loss; /* the last ones; NaN before */
};

/* `resume`: continue from the newest whole checkpoint of the run folder, whose
 * configuration must be the same in everything that changes the bits. Without
 * it a folder that holds a run is refused. */
HB_MUST_USE hb_status hb_trainer_create(struct hb_run_config *config, bool resume, struct hb_trainer **out);
void hb_trainer_destroy(struct hb_trainer *trainer);

/* Before run: traces some of the steps (train/run_trace.h). */
HB_MUST_USE hb_status hb_trainer_trace(struct hb_trainer *trainer, const struct hb_trace_request *request);

/* Before run: writes what all ranks do into RUN/timeline.json (parallel/timeline.h). */
HB_MUST_USE hb_status hb_trainer_timeline(struct hb_trainer *trainer);

/* Returns after the last step or, with a checkpoint saved, soon after *stop
 * became nonzero; trainer->attempted says which. Progress goes to core/log.h. */
HB_MUST_USE hb_status hb_trainer_run(struct hb_trainer *trainer, const volatile sig_atomic_t *stop);

#endif
