/* Messages and bytes that a rank sends in a step. */
#include <stdlib.h>

#include "parallel/fold_peak.h"
#include "parallel/plan.h"

enum { ELEMENT = 4 };

static void add(struct hb_plan_rank *rank, enum hb_plan_traffic kind, double messages, double bytes, double worst)
{
    rank->messages[kind] += messages;
    rank->sent[kind] += bytes;
    rank->worst_sent[kind] += worst;
}

/* The residual stream forward, its gradient back. */
static void count_stages(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_rank *rank)
{
    const struct hb_schedule_row *row = &plan->schedule.rows[pp_i];
    const struct hb_plan_request *r = &plan->request;
    double bytes = ELEMENT * (double)(r->sequences * r->length * r->model->hidden_size);
    double share = (double)plan->mine / (double)plan->rounds;
    for (int64_t i = 0; i < row->count; i++)
        if (row->actions[i].kind == HB_ACTION_SEND_F || row->actions[i].kind == HB_ACTION_SEND_B)
            add(rank, HB_PLAN_MESSAGES, share, share * bytes, share * bytes);
}

/* Rows to the experts' ranks, their outputs back, the outputs' gradients, the rows' gradients: 4 times K rows a
 * token, of which even routing leaves 1 / ep at home and the worst one none. */
static void count_experts(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_rank *rank)
{
    const struct hb_plan_request *r = &plan->request;
    double others = (double)(r->shape.ep - 1), mine = (double)plan->mine;
    double rows = (double)(r->sequences * r->length * r->model->num_experts_per_tok);
    double bytes = ELEMENT * rows * (double)r->model->hidden_size;
    for (int s = 0; s < plan->schedule.stages; s++)
        for (int64_t b = plan->stage_begin[s]; plan->schedule.rank_of[s] == pp_i && b < plan->stage_begin[s + 1]; b++)
            if (b >= 1 && b <= r->model->num_hidden_layers && hb_model_config_is_moe(r->model, b - 1) && others > 0)
                add(rank, HB_PLAN_EXPERTS, 5 * mine * others, 4 * mine * bytes * others / (double)r->shape.ep,
                    4 * mine * bytes);
}

/* Every node that a rank holds goes, cut along the shards, to their keepers. */
static hb_status count_reduce(const struct hb_plan *plan, struct hb_plan_rank *rank, const struct hb_plan_unit *unit)
{
    bool scattered = plan->request.level >= 2;
    double nodes = (double)plan->mine;
    if (!scattered) {
        struct hb_mesh mesh = {.data_ranks = plan->data_ranks};
        struct hb_range own = hb_mesh_held(&mesh, plan->request.microbatches, false, 0, plan->data_rank, 1);
        int64_t n = own.end - own.begin, remaining, *leaves = malloc((size_t)(n + 1) * sizeof *leaves);
        if (!leaves)
            return HB_FAIL(HB_EMEMORY, "out of memory for the nodes of a fold");
        for (int64_t i = 0; i < n; i++)
            leaves[i] = own.begin + i;
        hb_status status = hb_fold_remaining(leaves, n, plan->request.microbatches, &remaining);
        free(leaves);
        HB_TRY(status);
        nodes = (double)remaining;
    }
    double times = scattered ? (double)plan->rounds : 1;
    double bytes = nodes * ELEMENT * (double)(unit->elements - unit->shard);
    add(rank, HB_PLAN_REDUCE, times * (double)(unit->ranks - 1), bytes, bytes);
    return HB_OK;
}

/* Levels 0 to 2 gather once a step (gradients at level 0, else weights), level 3 for every F and I. */
static void count_gather(const struct hb_plan *plan, struct hb_plan_rank *rank, const struct hb_plan_unit *unit)
{
    double times = plan->request.level == 3 ? 2 * (double)plan->rounds : 1, others = (double)(unit->ranks - 1);
    double bytes = times * others * ELEMENT * (double)unit->shard;
    add(rank, HB_PLAN_GATHER, times * others, bytes, bytes);
}

hb_status hb_plan_traffic(struct hb_plan *plan, int64_t pp_i)
{
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_plan_unit *units;
    int64_t count;
    count_stages(plan, pp_i, rank);
    count_experts(plan, pp_i, rank);
    HB_TRY(hb_plan_units(plan, pp_i, &units, &count));
    hb_status status = HB_OK;
    for (int64_t u = 0; u < count && status == HB_OK; u++) {
        if (units[u].ranks == 1)
            continue;
        status = count_reduce(plan, rank, &units[u]);
        count_gather(plan, rank, &units[u]);
    }
    free(units);
    return status;
}
