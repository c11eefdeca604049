/* From folded gradients to new parameters: finite check, norm, clip, AdamW,
 * selection bias, digest (numerics.md rules 20 to 22).
 *
 * The scalars that steer the step (found, norm, factor) stay on the backend;
 * the host reads them once, as the step's verdict. */
#ifndef HB_TRAIN_OPTIMIZER_H
#define HB_TRAIN_OPTIMIZER_H

#include "core/hash.h"
#include "model/model.h"
#include "train/census.h"
#include "train/schedule.h"

enum hb_decay { HB_DECAY_MATRICES, HB_DECAY_ALL };

struct hb_optimizer_config {
    struct hb_rate_schedule schedule;
    double beta1, beta2, eps;
    double weight_decay;
    enum hb_decay decay;
    double clip; /* 0: no clipping */
    uint64_t seed; /* of stochastic rounding */
};

struct hb_optimizer {
    struct hb_context *context;
    struct hb_model *model;
    const struct hb_mesh *mesh; /* NULL: one rank */
    struct hb_optimizer_config config;
    struct hb_census census;
    /* fp64 [trained logical tensors]: of one rank in the model's order, else by name */
    struct hb_tensor squares;
    struct hb_tensor order;      /* i32: of one rank, places in `squares` by name */
    struct hb_tensor sums;       /* several ranks: fp64, a sum per chunk of the parameters here */
    struct hb_tensor chunk_hash; /* i64, of every chunk of the parameters here */
    /* One block, which the host reads at once: norm (fp64), extremes (i64 [2]: numbers out of range
     * among the gradients of a step, added to), found (i32). */
    struct hb_tensor verdict;
    struct hb_tensor norm, extremes, found, coef;
    struct hb_tensor names; /* i64, for stochastic rounding; data NULL: none */
    int64_t applied;        /* updates so far */
    int64_t attempted;      /* steps so far, skipped ones among them: the number in random streams */
    bool unguarded;  /* an update is applied even if it is not finite */
    /* NULL, or asked before a finite update is applied: true skips it. */
    bool (*veto)(void *context, double grad_norm);
    void *veto_context;
};

struct hb_verdict {
    bool skipped;   /* nothing changed, because of nonfinite or a veto */
    bool nonfinite; /* a gradient was not finite */
    /* Numbers among the step's gradients that are not finite, or too small for all their digits
     * (docs/loss-scaling.md): of the residual stream between blocks, and of parameters. */
    int64_t overflow, underflow;
    double grad_norm; /* before clipping, unscaled */
    double learning_rate;
};

HB_MUST_USE hb_status hb_optimizer_init(struct hb_optimizer *optimizer, struct hb_model *model,
                                        const struct hb_optimizer_config *config);
/* The same for a rank of several, whose model is its part. Collective: world, here
 * and below. */
HB_MUST_USE hb_status hb_optimizer_init_ranks(struct hb_optimizer *optimizer, struct hb_model *model,
                                              const struct hb_mesh *mesh,
                                              const struct hb_optimizer_config *config);
void hb_optimizer_release(struct hb_optimizer *optimizer);

/* One update from the roots in param->use[0].root (of several ranks: from each
 * one's shard; at ZeRO level 0 from all of them, everywhere). `counts` i64 [L,E] of the
 * whole step, for balance `bias` (data NULL: none). `digest`: also make the
 * chunk hashes. */
HB_MUST_USE hb_status hb_optimizer_step(struct hb_optimizer *optimizer, float scale, struct hb_tensor counts,
                                        bool digest, struct hb_verdict *verdict);

/* The digest of all parameters. `fresh`: hash them all now; otherwise use what
 * the last update with `digest` left. */
HB_MUST_USE hb_status hb_optimizer_digest(struct hb_optimizer *optimizer, bool fresh,
                                          char text[HB_DIGEST_TEXT + 1]);

#endif
