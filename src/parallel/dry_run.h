/* What a stage costs: its blocks run one microbatch forward and backward, on a backend that only counts
 * (parallel/hollow.h): the FLOPs that the ops state; or on a real one: seconds. */
#ifndef HB_PARALLEL_DRY_RUN_H
#define HB_PARALLEL_DRY_RUN_H

#include "model/model.h"
#include "parallel/simulate.h"

/* FLOPs of products and attention of one microbatch, one sequence a document. */
struct hb_stage_use {
    double forward_flops, input_flops, weight_flops;
};

/* Blocks [begin, end) of the model for microbatches of `sequences` sequences of `length` tokens. */
HB_MUST_USE hb_status hb_dry_run(const struct hb_model_config *config, struct hb_recompute recompute,
                                 struct hb_model_part part, int64_t begin, int64_t end, int64_t sequences,
                                 int64_t length, struct hb_stage_use *use);

/* Seconds of F, I and W on a backend, all experts here: the fastest of some runs, with fresh weights. */
HB_MUST_USE hb_status hb_timed_run(struct hb_context *context, const struct hb_model_config *config,
                                   struct hb_recompute recompute, int64_t begin, int64_t end,
                                   int64_t sequences, int64_t length, struct hb_stage_cost *seconds);

/* Cuts the model's blocks into stages where the dearest one is cheapest by counted FLOPs
 * (parallel/partition.h): begin [stages + 1]. */
HB_MUST_USE hb_status hb_cut_stages(const struct hb_model_config *config, struct hb_recompute recompute,
                                    int64_t sequences, int64_t length, int stages, int64_t *begin);

#endif
