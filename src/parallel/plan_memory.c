/* Bytes per rank. fp32: weights 4, gradients 4 a use, moments 8 bytes an element. */
#include <stdlib.h>

#include "parallel/fold_peak.h"
#include "parallel/plan.h"

enum { WEIGHT = 4, ROOT = 4, MOMENTS = 8, ACTIVATION = 4 };

static void count_states(const struct hb_plan *plan, struct hb_plan_rank *rank,
                         const struct hb_plan_unit *units, int64_t count)
{
    int64_t tied_head = plan->request.model->tie_word_embeddings ? plan->request.model->num_hidden_layers + 1
                                                                 : -1;
    for (int64_t u = 0; u < count; u++) {
        const struct hb_plan_unit *unit = &units[u];
        int level = unit->ranks > 1 ? plan->request.level : 0;
        double all = (double)unit->elements, shard = (double)unit->shard;
        int uses = tied_head > 0 && unit->block == 0 ? 2 : 1; /* a tied matrix has two folds */
        rank->bytes[HB_PLAN_PARAMETERS] += WEIGHT * (level >= 3 ? shard : all);
        rank->bytes[HB_PLAN_GRADIENTS] += ROOT * uses * (level >= 2 ? shard : all);
        rank->bytes[HB_PLAN_OPTIMIZER] += MOMENTS * (level >= 1 ? shard : all);
    }
}

/* --- activations --- */

/* Expert layers among the blocks of a stage. */
static int64_t expert_layers(const struct hb_plan *plan, int stage)
{
    int64_t n = 0, L = plan->request.model->num_hidden_layers;
    for (int64_t b = plan->stage_begin[stage]; b < plan->stage_begin[stage + 1]; b++)
        n += b >= 1 && b <= L && hb_model_config_is_moe(plan->request.model, b - 1);
    return n;
}

/* Rows that one microbatch of each of the ep ranks may bring to a rank's experts: evenly, and at worst. */
static double even_rows(const struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    return (double)(r->sequences * r->length * r->model->num_experts_per_tok);
}

static double worst_rows(const struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    struct hb_range experts = hb_share(r->model->num_experts, r->shape.ep, plan->data_rank % r->shape.ep);
    int64_t own = experts.end - experts.begin, K = r->model->num_experts_per_tok;
    return (double)(r->shape.ep * r->sequences * r->length * (own < K ? own : K));
}

/* Bytes that an expert layer keeps for a row: gathered row, gate, up, product, output. */
static double row_bytes(const struct hb_plan *plan)
{
    const struct hb_model_config *c = plan->request.model;
    switch (plan->request.recompute.kind) {
    case HB_RECOMPUTE_FULL:
        return 0;
    case HB_RECOMPUTE_SELECTIVE:
        return ACTIVATION * (double)(c->hidden_size + 2 * c->moe_intermediate_size);
    default:
        return ACTIVATION * (double)(2 * c->hidden_size + 3 * c->moe_intermediate_size);
    }
}

/* Walks the row; `extra` bytes a stage holds besides, for rows that routing brings too many of. */
static double activation_peak(const struct hb_plan *plan, int64_t pp_i, double extra_a_layer)
{
    const struct hb_schedule_row *row = &plan->schedule.rows[pp_i];
    double now = 0, peak = 0;
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        const struct hb_stage_use *use = &plan->use[a->stage];
        double extra = extra_a_layer * (double)expert_layers(plan, a->stage), during = 0;
        if (a->kind == HB_ACTION_F) {
            during = now + (double)use->forward_peak + extra;
            now += (double)use->held + extra;
        } else if (a->kind == HB_ACTION_I) {
            during = now - (double)use->held + (double)use->input_peak;
            now += (double)(use->held_for_weight - use->held);
        } else if (a->kind == HB_ACTION_W) {
            during = now - (double)use->held_for_weight + (double)use->weight_peak;
            now -= (double)use->held_for_weight + extra;
        } else if (a->kind == HB_ACTION_B) {
            during = now - (double)use->held + (double)use->both_peak;
            now -= (double)use->held + extra;
        }
        if (during > peak)
            peak = during;
    }
    return peak;
}

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

/* Levels 0 and 1: partial sums of whole gradients. Levels 2 and 3: the leaves of a round, whole, and partial
 * sums of shards. Every parameter at its own peak: an upper bound, as not all peak at once. */
static hb_status count_fold(struct hb_plan *plan, int64_t pp_i, const struct hb_plan_unit *units,
                            int64_t count)
{
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    int stage = 0;
    while (plan->schedule.rank_of[stage] != pp_i)
        stage++;
    int64_t n, plain, flagged, *leaves = malloc((size_t)plan->rounds * sizeof *leaves);
    if (!leaves)
        return HB_FAIL(HB_EMEMORY, "out of memory for the order of gradients");
    hb_status status = leaf_order(plan, stage, plan->data_rank, leaves, &n);
    if (status == HB_OK)
        status = hb_fold_peak(leaves, n, plan->request.microbatches, false, &plain);
    if (status == HB_OK)
        status = hb_fold_peak(leaves, n, plan->request.microbatches, true, &flagged);
    free(leaves);
    HB_TRY(status);
    bool scattered = plan->request.level >= 2 && plan->data_ranks > 1;
    int64_t depth = 0;
    while (((int64_t)1 << depth) < plan->request.microbatches)
        depth++;
    rank->pending = scattered ? depth : plain;
    for (int64_t u = 0; u < count; u++) {
        int64_t pending = units[u].flags ? flagged : plain;
        double whole = ROOT * (double)units[u].elements + 4.0 * (double)units[u].flags;
        rank->bytes[HB_PLAN_FOLD] +=
            scattered ? whole + (double)(ROOT * depth * units[u].shard) : (double)pending * whole;
    }
    return HB_OK;
}

/* Staging: the largest unit that is gathered or reduced, and rows of experts. */
static void count_exchange(struct hb_plan *plan, struct hb_plan_rank *rank, const struct hb_plan_unit *units,
                           int64_t count)
{
    const struct hb_plan_request *r = &plan->request;
    double largest = 0, C = (double)r->model->hidden_size;
    for (int64_t u = 0; u < count; u++)
        if (units[u].ranks > 1 && (double)(units[u].elements + units[u].shard) > largest)
            largest = (double)(units[u].elements + units[u].shard);
    double rows = r->shape.ep > 1 && r->model->num_experts ? ACTIVATION * C * 2 * even_rows(plan) : 0;
    double worst = r->shape.ep > 1 && r->model->num_experts
                       ? ACTIVATION * C * (even_rows(plan) + worst_rows(plan))
                       : 0;
    double carry = r->shape.pp > 1 ? 2 * ACTIVATION * C * (double)(r->sequences * r->length) : 0;
    rank->bytes[HB_PLAN_EXCHANGE] = WEIGHT * largest + rows + carry;
    rank->worst_bytes[HB_PLAN_EXCHANGE] = WEIGHT * largest + worst + carry;
}

hb_status hb_plan_memory(struct hb_plan *plan, int64_t pp_i)
{
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_plan_unit *units;
    int64_t count;
    HB_TRY(hb_plan_units(plan, pp_i, &units, &count));
    count_states(plan, rank, units, count);
    hb_status status = count_fold(plan, pp_i, units, count);
    count_exchange(plan, rank, units, count);
    free(units);
    HB_TRY(status);
    double tables = 4.0 * (double)(plan->request.length * plan->request.model->head_dim);
    rank->bytes[HB_PLAN_PARAMETERS] += tables; /* of the rotation */
    rank->bytes[HB_PLAN_ACTIVATIONS] = activation_peak(plan, pp_i, 0);
    for (int i = 0; i < HB_PLAN_BYTES; i++)
        if (i != HB_PLAN_EXCHANGE)
            rank->worst_bytes[i] = rank->bytes[i];
    if (plan->request.shape.ep > 1)
        rank->worst_bytes[HB_PLAN_ACTIVATIONS] =
            activation_peak(plan, pp_i, (worst_rows(plan) - even_rows(plan)) * row_bytes(plan));
    for (int i = 0; i < HB_PLAN_BYTES; i++) {
        rank->total += rank->bytes[i];
        rank->worst_total += rank->worst_bytes[i];
    }
    return HB_OK;
}
