/* What the forward passes of a step leave to be reported: losses, statistics of routers, counts of tokens.
 *
 * A rank keeps what its lanes leave in one block of its backend's memory, which the host reads once a step;
 * then every rank gets the values of all. */
#ifndef HB_PARALLEL_RESULTS_H
#define HB_PARALLEL_RESULTS_H

#include "model/model.h"
#include "parallel/mesh.h"
#include "parallel/timeline.h"

struct hb_step_results {
    const struct hb_model *model;
    const struct hb_mesh *mesh;
    int64_t rounds, layers, experts; /* most lanes of a stage in a step, L, E */
    /* here, of the lanes of this rank: one block */
    struct hb_tensor block;
    struct hb_tensor layer_counts; /* i64 [L, E], added up */
    struct hb_tensor losses, z;    /* fp64 [rounds], [rounds * L] */
    struct hb_tensor aux;          /* fp32 [rounds * L] */
    unsigned char *host;           /* the block, when it was read */
    /* on the host; of all ranks after hb_results_report */
    int64_t microbatches, most; /* M of the step, the most so far */
    double *values;             /* by microbatch; read by the functions below */
    bool *filled;               /* made on this rank, */
    int64_t *round;             /* [M] in this round */
    int64_t *counts;            /* [L, E] tokens per expert */
    int64_t *rank_rows; /* [ranks of the world]: rows that its experts worked on; behind the counts */
};

HB_MUST_USE hb_status hb_results_init(struct hb_step_results *results, const struct hb_model *model,
                                      const struct hb_mesh *mesh, int64_t rounds);
void hb_results_release(struct hb_step_results *results);

/* A step of M microbatches begins. */
HB_MUST_USE hb_status hb_results_begin(struct hb_step_results *results, int64_t M);

/* Keeps what microbatch m, the rank's in `round`, leaves of the blocks that have just run forwards. With a
 * timeline the host waits for the counts, which it writes down. */
HB_MUST_USE hb_status hb_results_keep(struct hb_step_results *results, const struct hb_carry *carry,
                                      int64_t m, int64_t round, struct hb_range blocks,
                                      struct hb_timeline *timeline);

/* Collective: world. */
HB_MUST_USE hb_status hb_results_report(struct hb_step_results *results);

double hb_result_loss(const struct hb_step_results *results, int64_t m); /* sum of cross-entropy */
int64_t hb_result_tokens(const struct hb_step_results *results, int64_t m);
/* `hf`: layer 0 is all */
double hb_result_aux(const struct hb_step_results *results, int64_t m, int64_t layer);
/* sum of squared lse */
double hb_result_z(const struct hb_step_results *results, int64_t m, int64_t layer);

/* Every rank's values to every rank: values [count], of which this rank has those that are filled.
 * Collective: world. */
HB_MUST_USE hb_status hb_results_gather(struct hb_comm *world, int64_t count, const bool *filled,
                                        double *values);

#endif
