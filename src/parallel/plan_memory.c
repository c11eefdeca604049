/* Bytes of a rank, and what it sends: a rehearsal of its step (parallel/rehearse.h). */
#include <stdlib.h>

#include "parallel/fold_peak.h"
#include "parallel/plan.h"
#include "parallel/rehearse.h"

/* --- pending gradients --- */

/* The global numbers of a data rank's microbatches in the order in which a stage's W makes their leaves. */
static hb_status leaf_order(const struct hb_plan *plan, int stage, int64_t d, int64_t *leaves, int64_t *count)
{
    struct hb_mesh mesh = {.data_ranks = plan->data_ranks, .data_rank = d};
    int64_t M = plan->request.microbatches, *rounds = malloc((size_t)plan->rounds * sizeof *rounds);
    if (!rounds)
        return HB_FAIL(HB_EMEMORY, "out of memory for the order of gradients");
    hb_schedule_weight_order(&plan->schedule, stage, rounds);
    *count = 0;
    for (int64_t i = 0; i < plan->rounds; i++) {
        int64_t m = hb_mesh_microbatch(&mesh, M, plan->request.level >= 2, rounds[i], d);
        if (m >= 0)
            leaves[(*count)++] = m;
    }
    free(rounds);
    return HB_OK;
}

/* Levels 0 and 1: partial sums of whole gradients. Levels 2 and 3: of shards, one for each level of the
 * tree. */
static hb_status count_pending(struct hb_plan *plan, int64_t pp_i)
{
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    int stage = 0;
    if (plan->request.level >= 2 && plan->data_ranks > 1) {
        while (((int64_t)1 << rank->pending) < plan->request.microbatches)
            rank->pending++;
        return HB_OK;
    }
    while (plan->schedule.rank_of[stage] != pp_i)
        stage++;
    int64_t n, *leaves = malloc((size_t)plan->rounds * sizeof *leaves);
    if (!leaves)
        return HB_FAIL(HB_EMEMORY, "out of memory for the order of gradients");
    hb_status status = leaf_order(plan, stage, plan->data_rank, leaves, &n);
    if (status == HB_OK)
        status = hb_fold_peak(leaves, n, plan->request.microbatches, false, &rank->pending);
    free(leaves);
    return status;
}

/* --- the rehearsal --- */

static void keep_bytes(const struct hb_rehearsal *made, double bytes[HB_FOOTPRINTS])
{
    for (int i = 0; i < HB_FOOTPRINTS; i++)
        bytes[i] = (double)made->footprint[i];
}

static void keep_traffic(const int64_t made[HB_PLAN_TRAFFIC], double kept[HB_PLAN_TRAFFIC])
{
    kept[HB_PLAN_MESSAGES] = (double)made[HB_REHEARSED_STAGES];
    kept[HB_PLAN_EXPERTS] = (double)made[HB_REHEARSED_EXPERTS];
    kept[HB_PLAN_REDUCE] = (double)made[HB_REHEARSED_REDUCE];
    kept[HB_PLAN_GATHER] = (double)made[HB_REHEARSED_GATHER];
}

/* The rehearsal has each message taken at once. At worst those are in memory that may be on their way, and
 * the one that is received. */
static hb_status count_ahead(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_rank *rank)
{
    int64_t ahead;
    HB_TRY(hb_schedule_ahead(&plan->schedule, (int)pp_i, &ahead));
    double taken = rank->bytes[HB_FOOTPRINT_MESSAGES], most = (double)(ahead + 1) * taken,
           all = rank->sent[HB_PLAN_MESSAGES] + taken;
    rank->worst_bytes[HB_FOOTPRINT_MESSAGES] = most < all ? most : all;
    return HB_OK;
}

hb_status hb_plan_use(struct hb_plan *plan, int64_t pp_i)
{
    const struct hb_plan_request *r = &plan->request;
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_ranks_options options = {.shape = r->shape,
                                       .zero = r->level,
                                       .schedule = r->schedule,
                                       .microbatches = r->microbatches,
                                       .recompute = r->recompute,
                                       .sequences = r->sequences,
                                       .length = r->length,
                                       .first_block = plan->stage_begin};
    int self = (int)(pp_i * plan->data_ranks + plan->data_rank);
    struct hb_rehearsal made;
    HB_TRY(hb_rehearse(r->model, &options, self, r->routing ? HB_ROUTED_AS_GIVEN : HB_ROUTED_EVENLY,
                       r->routing, &made));
    keep_bytes(&made, rank->bytes);
    keep_traffic(made.messages, rank->messages);
    keep_traffic(made.bytes, rank->sent);
    bool open = r->shape.ep > 1 && !r->routing; /* the router may do worse */
    if (open)
        HB_TRY(hb_rehearse(r->model, &options, self, HB_ROUTED_HERE, NULL, &made));
    keep_bytes(&made, rank->worst_bytes);
    if (open)
        HB_TRY(hb_rehearse(r->model, &options, self, HB_ROUTED_ACROSS, NULL, &made));
    keep_traffic(made.bytes, rank->worst_sent);
    HB_TRY(count_ahead(plan, pp_i, rank));
    for (int i = 0; i < HB_FOOTPRINTS; i++) {
        rank->total += rank->bytes[i];
        rank->worst_total += rank->worst_bytes[i];
    }
    return count_pending(plan, pp_i);
}
