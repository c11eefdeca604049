/* What a stage costs: its blocks run one microbatch forward and backward on a backend that only counts
 * (parallel/hollow.h). Bytes are those of the tape's pool, FLOPs those that the ops state. */
#ifndef HB_PARALLEL_DRY_RUN_H
#define HB_PARALLEL_DRY_RUN_H

#include "model/model.h"

struct hb_stage_use {
    /* Bytes of activations of one microbatch. A peak counts what is held already. */
    int64_t forward_peak;  /* during F */
    int64_t held;          /* from the end of F to the beginning of I or B */
    int64_t both_peak;     /* during B */
    int64_t input_peak;    /* during I */
    int64_t held_for_weight; /* from the end of I to the beginning of W */
    int64_t weight_peak;   /* during W */
    double forward_flops, input_flops, weight_flops; /* products and attention, one sequence a document */
    int64_t leaf_peak;     /* bytes of gradient leaves that B or W makes: of all parameters of the stage */
};

/* Blocks [begin, end) of the model for microbatches of `sequences` sequences of `length` tokens. */
HB_MUST_USE hb_status hb_dry_run(const struct hb_model_config *config, struct hb_recompute recompute,
                                 struct hb_model_part part, int64_t begin, int64_t end, int64_t sequences,
                                 int64_t length, struct hb_stage_use *use);

/* Cuts the model's blocks into stages where the dearest one is cheapest by counted FLOPs
 * (parallel/partition.h): begin [stages + 1]. */
HB_MUST_USE hb_status hb_cut_stages(const struct hb_model_config *config, struct hb_recompute recompute,
                                    int64_t sequences, int64_t length, int stages, int64_t *begin);

#endif
