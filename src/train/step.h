/* One training step: a pure function of (model, optimizer state, microbatches).
 *
 * For every microbatch forward and backward; gradients folded along the
 * canonical tree; then the optimizer. Losses are reported, folded in fp64, and
 * do not feed back. */
#ifndef HB_TRAIN_STEP_H
#define HB_TRAIN_STEP_H

#include "parallel/ranks.h"
#include "train/optimizer.h"
#include "train/spikes.h"

struct hb_stepper {
    struct hb_context *context;
    struct hb_model *model;
    struct hb_optimizer *optimizer;
    struct hb_ranks *ranks; /* NULL: one rank */
    struct hb_timeline *timeline; /* NULL: none; may be set at any time */
    /* of one rank */
    struct hb_tape tape;
    struct hb_gradients gradients;
    struct hb_carry carry;
    int64_t microbatches;      /* M, the most of a step */
    /* What is reported lies in one block, which the host reads once a step. */
    struct hb_tensor results;
    struct hb_tensor losses;   /* fp64 [M]: sum of CE of each microbatch */
    struct hb_tensor aux;      /* fp32 [M, L] */
    struct hb_tensor z;        /* fp64 [M, L]: sum of squared lse */
    /* of any */
    struct hb_tensor counts;   /* i64 [L, E] of the step, in the block too */
    unsigned char *results_host; /* the block of the last step, */
    int64_t *counts_host;        /* and [L * E] in it */
    int64_t *rank_rows;          /* [ranks] rows that each one's experts had then */
    float loss_gain;           /* the losses of a step are multiplied by it: 1 but for a planned fault */
    struct hb_spikes *spikes;  /* NULL, or the judge of finite steps */
    double loss_seen;          /* of the step that runs, for the judge */
};

struct hb_step_report {
    double loss; /* mean cross-entropy over the step's labels, nats */
    double aux;  /* mean over microbatches of the balance loss (layers added); 0 if there is none */
    double z;    /* the same of the z-loss */
    int64_t tokens, labels;
    int64_t bytes[HB_FOOTPRINTS]; /* of this rank, each category at its peak in the step */
    struct hb_verdict verdict;
    char digest[HB_DIGEST_TEXT + 1]; /* "" if not asked for */
};

/* For steps of up to `microbatches` microbatches of up to `tokens` rows. */
HB_MUST_USE hb_status hb_stepper_init(struct hb_stepper *stepper, struct hb_model *model,
                                      struct hb_optimizer *optimizer, int64_t microbatches, int64_t tokens);
/* For a rank of several, whose ranks have been started. From then on hb_step and
 * hb_step_evaluate are collective: world. Of the batches of a step only this rank's
 * (hb_ranks_wanted) need be filled, the others are not looked at. */
HB_MUST_USE hb_status hb_stepper_init_ranks(struct hb_stepper *stepper, struct hb_ranks *ranks,
                                            struct hb_optimizer *optimizer);
void hb_stepper_release(struct hb_stepper *stepper);

/* `scale` is the loss scale, a power of two (1 in fp32). Refused when the step
 * has no label at all. */
HB_MUST_USE hb_status hb_step(struct hb_stepper *stepper, const struct hb_batch *batches,
                              int64_t microbatches, float scale, bool digest, struct hb_step_report *report);

/* Cross-entropy, each microbatch's sum added to `before` in order, and number of
 * labels of microbatches; nothing is trained. */
HB_MUST_USE hb_status hb_step_evaluate(struct hb_stepper *stepper, const struct hb_batch *batches,
                                       int64_t microbatches, double before, double *loss_sum,
                                       int64_t *labels);

#endif
