/* How evenly the experts work: from the step's counts of tokens per expert, which are exact and the same in
 * every layout. What ranks have to do depends on the layout by nature. */
#ifndef HB_TRAIN_EXPERT_LOAD_H
#define HB_TRAIN_EXPERT_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

/* Of a layer. */
struct hb_layer_load {
    int64_t rows;        /* tokens times experts per token: the sum of the counts */
    int64_t most, least; /* rows of the expert with the most, the fewest */
    int64_t reached;     /* experts with a row */
    int64_t used;        /* experts with at least a tenth of the mean */
    /* -sum p log p / log E, where p is an expert's share of the rows: 1 when all have the same, 0 when one
     * has all. In fp64, added in the order of experts. 1 for a single expert, or no row. */
    double entropy;
};
struct hb_layer_load hb_layer_load_of(const int64_t *counts, int64_t experts);

/* Of a step. */
struct hb_expert_load {
    double used, reached; /* shares of all experts of all layers */
    double entropy;       /* mean of the layers */
    double max_over_mean; /* the largest of a layer; 0 without rows */
};
/* counts [layers, experts], layers >= 1 */
struct hb_expert_load hb_expert_load_of(const int64_t *counts, int64_t layers, int64_t experts);

/* RUN/experts.jsonl: a line a step, with the layers' numbers and the ranks' rows. */
struct hb_expert_lines {
    FILE *file;
    char path[4096];
};

/* What each rank's experts had to do in a step: `rows` [ranks], all layers of its stage added. A stage has
 * `data_ranks` ranks, one behind the other. */
struct hb_rank_rows {
    const int64_t *rows;
    int64_t ranks, data_ranks;
};
/* The largest, over all ranks, of its rows divided by the mean of its stage; 0 without rows. */
double hb_rank_rows_max_over_mean(const struct hb_rank_rows *ranks);

/* Lines after step `keep_steps` are removed first. */
HB_MUST_USE hb_status hb_expert_lines_open(struct hb_expert_lines *lines, const char *run_folder,
                                           int64_t keep_steps);
HB_MUST_USE hb_status hb_expert_lines_write(struct hb_expert_lines *lines, int64_t step,
                                            const int64_t *counts, int64_t layers, int64_t experts,
                                            const struct hb_rank_rows *ranks);
void hb_expert_lines_close(struct hb_expert_lines *lines);

#endif
