/* The plan: what a run will need on every rank, before it is started.
 *
 * Memory and traffic: a rehearsal of a rank's step (parallel/rehearse.h), counted as a run counts them. Time:
 * the simulator, with the machine's rates. docs/plan.md has the details. What depends on the router's choices
 * is given for even routing and for the worst one, or for the choices that a run made. */
#ifndef HB_PARALLEL_PLAN_H
#define HB_PARALLEL_PLAN_H

#include "model/model.h"
#include "parallel/block_costs.h"
#include "parallel/dry_run.h"
#include "parallel/machine.h"
#include "parallel/footprint.h"
#include "parallel/mesh.h"
#include "parallel/routing.h"
#include "parallel/simulate.h"

struct hb_plan_request {
    const struct hb_model_config *model;
    struct hb_recompute recompute;
    int64_t sequences, length; /* of a microbatch; tokens of a sequence */
    int64_t microbatches;      /* M of a step, over all data ranks */
    struct hb_mesh_shape shape;
    int level;         /* ZeRO, 0 to 3 */
    /* whose figures are wanted: 0 .. D - 1; -1: the last one, which has the largest shares */
    int64_t data_rank;
    const char *schedule;
    const struct hb_routed *routing; /* of the step's microbatches; NULL: not known */
    const struct hb_block_costs *costs; /* of F, I and W; NULL: FLOPs over the machine's rate */
    double target; /* utilisation of the pipeline that the least number of microbatches is wanted for */
    struct hb_machine machine;
};

enum hb_plan_traffic {
    HB_PLAN_MESSAGES, /* between stages */
    HB_PLAN_EXPERTS,  /* token rows to experts and back */
    HB_PLAN_REDUCE,   /* gradients to the keepers of their shards */
    HB_PLAN_GATHER,   /* weights from their shards */
    HB_PLAN_TRAFFIC
};
const char *hb_plan_traffic_name(enum hb_plan_traffic which);

enum hb_plan_time {
    HB_PLAN_COMPUTING,  /* products and attention */
    HB_PLAN_EXCHANGING, /* experts */
    HB_PLAN_GATHERING,  /* what of gathers no computation hides */
    HB_PLAN_REDUCING,
    HB_PLAN_UPDATING, /* optimizer, bound by memory */
    HB_PLAN_BUBBLE,   /* the pipeline fills and drains, stages differ, messages are under way */
    HB_PLAN_TIMES
};
const char *hb_plan_time_name(enum hb_plan_time which);

/* One pipeline rank of the data rank that the request names. */
struct hb_plan_rank {
    int64_t first_block, last_block, blocks; /* first and last one, and how many */
    int64_t trained;                         /* parameters that the rank has or shares */
    int64_t in_flight;                       /* microbatches of any stage */
    int64_t pending;                         /* buffers of the fold beside the root, a parameter */
    double bytes[HB_FOOTPRINTS], worst_bytes[HB_FOOTPRINTS];
    double total, worst_total;
    double messages[HB_PLAN_TRAFFIC], sent[HB_PLAN_TRAFFIC], worst_sent[HB_PLAN_TRAFFIC]; /* a step */
    double flops;
    double seconds[HB_PLAN_TIMES]; /* of a step */
};

struct hb_plan {
    struct hb_plan_request request;
    int64_t ranks, data_ranks, rounds; /* N, D, the most microbatches of a data rank */
    int64_t data_rank, mine;           /* the data rank, and its microbatches */
    int64_t parameters, active;        /* of the model */
    int64_t tokens;                    /* of a step */
    struct hb_schedule schedule;       /* with messages */
    int64_t *stage_begin;              /* [stages + 1] blocks */
    struct hb_stage_use *use;          /* [stages] */
    struct hb_stage_cost *cost;        /* [stages] seconds */
    struct hb_simulation simulation;   /* of the schedule at these costs */
    double equal;                      /* utilisation at equal costs */
    struct hb_plan_rank *rank;         /* [pp] */
    int64_t fattest, slowest;          /* pipeline ranks */
    int64_t least;                     /* microbatches of a data rank for the target; -1: not with 256 */
    double least_utilisation;
    double seconds; /* of a step */
    double flops;   /* of a step, all ranks */
    enum hb_plan_time bottleneck;
};

/* HB_EARGUMENT: the layout does not fit the model, the schedule the layout. */
HB_MUST_USE hb_status hb_plan_make(const struct hb_plan_request *request, struct hb_plan *plan);
void hb_plan_release(struct hb_plan *plan);

/* --- for the files of this unit --- */

/* The share of rank pp_i in the model: blocks (allocated by the caller, [L + 2]) and experts of data rank
 * `d`. */
struct hb_model_part hb_plan_part(const struct hb_plan *plan, int64_t pp_i, int64_t d, bool *blocks);
/* Bytes and traffic of pipeline rank pp_i. */
HB_MUST_USE hb_status hb_plan_use(struct hb_plan *plan, int64_t pp_i);
HB_MUST_USE hb_status hb_plan_times(struct hb_plan *plan);

/* Elements that a group of ranks shares: the dense parameters of a block, or its experts. */
struct hb_plan_unit {
    int64_t block;
    int64_t elements, shard; /* all, and those of one rank */
    double weight, gradient; /* bytes an element */
    int64_t ranks;           /* of the group */
    bool experts;
};
/* Units of pipeline rank pp_i, trained parameters only; the caller free()s. */
HB_MUST_USE hb_status hb_plan_units(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_unit **units,
                                    int64_t *count);

#endif
