/* Seconds of F, I and W of each block of a model, given in a file or measured: for cutting stages and for the
 * simulator. Counted FLOPs say nothing of memory, of attention's rows or of small products; a clock does.
 *
 * Text form: a line a block, from the embedding to the head, with three numbers: F, I, W. `#` begins a
 * comment. */
#ifndef HB_PARALLEL_BLOCK_COSTS_H
#define HB_PARALLEL_BLOCK_COSTS_H

#include "model/model.h"
#include "parallel/simulate.h"

struct hb_block_costs {
    int64_t blocks;
    struct hb_stage_cost *cost; /* [blocks], owned */
};

/* HB_EFORMAT names the line, or says how many blocks are wanted. */
HB_MUST_USE hb_status hb_block_costs_load(const char *path, int64_t blocks, struct hb_block_costs *out);
HB_MUST_USE hb_status hb_block_costs_write(const struct hb_block_costs *costs, const char *path);

/* Runs each kind of block on the context's backend: `sequences` of `length` tokens, all experts here. */
HB_MUST_USE hb_status hb_block_costs_measure(struct hb_context *context, const struct hb_model_config *config,
                                             struct hb_recompute recompute, int64_t sequences, int64_t length,
                                             struct hb_block_costs *out);
void hb_block_costs_release(struct hb_block_costs *costs);

/* Of blocks [begin, end) together. */
struct hb_stage_cost hb_block_costs_sum(const struct hb_block_costs *costs, int64_t begin, int64_t end);

/* As hb_cut_stages, by these costs. */
HB_MUST_USE hb_status hb_block_costs_cut(const struct hb_block_costs *costs, int stages, int64_t *begin);

#endif
