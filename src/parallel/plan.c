#include "parallel/plan.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/hollow.h"

const char *hb_plan_traffic_name(enum hb_plan_traffic which)
{
    static const char *const names[HB_PLAN_TRAFFIC] = {"stages", "experts", "gradients", "weights"};
    return names[which];
}

const char *hb_plan_time_name(enum hb_plan_time which)
{
    static const char *const names[HB_PLAN_TIMES] = {"computing", "experts' exchange", "gathering weights",
                                                     "reducing gradients", "optimizer", "bubble"};
    return names[which];
}

struct hb_model_part hb_plan_part(const struct hb_plan *plan, int64_t pp_i, int64_t d, bool *blocks)
{
    const struct hb_mesh_shape *shape = &plan->request.shape;
    struct hb_range experts = hb_share(plan->request.model->num_experts, shape->ep, d % shape->ep);
    memset(blocks, 0, (size_t)(plan->request.model->num_hidden_layers + 2) * sizeof *blocks);
    for (int s = 0; s < plan->schedule.stages; s++)
        for (int64_t b = plan->stage_begin[s];
             plan->schedule.rank_of[s] == pp_i && b < plan->stage_begin[s + 1]; b++)
            blocks[b] = true;
    return (struct hb_model_part){
        .blocks = blocks, .first_expert = experts.begin, .expert_count = experts.end - experts.begin};
}

/* --- units --- */

static int64_t shard_elements(struct hb_param *const *params, int64_t count, int64_t ranks, int64_t r)
{
    int64_t chunks = 0, sum = 0;
    for (int64_t i = 0; i < count; i++)
        chunks += params[i]->trained ? hb_param_chunks(params[i]) : 0;
    struct hb_range share = hb_share(chunks, ranks, r);
    for (int64_t i = 0; i < count; i++) {
        if (!params[i]->trained)
            continue;
        int64_t all = hb_param_chunks(params[i]);
        int64_t begin = share.begin < 0 ? 0 : share.begin > all ? all : share.begin;
        int64_t end = share.end < 0 ? 0 : share.end > all ? all : share.end;
        sum += hb_param_chunk_begin(params[i], end) - hb_param_chunk_begin(params[i], begin);
        share.begin -= all;
        share.end -= all;
    }
    return sum;
}

static bool is_stack(const struct hb_param *param)
{
    return param->name_after[0] != '\0';
}

static hb_status list_units(const struct hb_plan *plan, const struct hb_model *model,
                            struct hb_plan_unit **units, int64_t *count)
{
    const struct hb_mesh_shape *shape = &plan->request.shape;
    struct hb_param **p = model->params;
    enum hb_dtype gradient = hb_param_grad_dtype(model->context, &model->config.precision);
    *count = 0;
    *units = calloc((size_t)model->param_count + 1, sizeof **units);
    if (!*units)
        return HB_FAIL(HB_EMEMORY, "out of memory for the units of parameters");
    for (int64_t i = 0; i < model->param_count;) {
        int64_t first = i;
        struct hb_plan_unit unit = {.block = p[i]->block, .experts = is_stack(p[i])};
        for (; i < model->param_count && p[i]->block == unit.block && is_stack(p[i]) == unit.experts; i++) {
            int64_t n = p[i]->trained ? hb_param_count(p[i]) : 0;
            unit.elements += n;
            unit.weight += (double)(n * (int64_t)hb_dtype_size(p[i]->value.dtype));
            unit.gradient += (double)(n * (int64_t)hb_dtype_size(gradient));
        }
        unit.weight /= unit.elements ? (double)unit.elements : 1;
        unit.gradient /= unit.elements ? (double)unit.elements : 1;
        unit.ranks = unit.experts ? shape->dp : plan->data_ranks;
        unit.shard = shard_elements(p + first, i - first, unit.ranks,
                                    unit.experts ? plan->data_rank / shape->ep : plan->data_rank);
        (*units)[(*count)++] = unit;
    }
    return HB_OK;
}

hb_status hb_plan_units(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_unit **units, int64_t *count)
{
    struct hb_context context;
    struct hb_model *model = NULL;
    bool *blocks = malloc((size_t)(plan->request.model->num_hidden_layers + 2) * sizeof *blocks);
    if (!blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for the blocks of a rank");
    struct hb_model_part part = hb_plan_part(plan, pp_i, plan->data_rank, blocks);
    hb_status status = hb_context_open(&hb_hollow_backend, HB_CANONICAL, 1, &context);
    if (status == HB_OK) {
        status = hb_model_outline(&context, plan->request.model, &part, &model);
        if (status == HB_OK)
            status = list_units(plan, model, units, count);
        hb_model_destroy(model);
        hb_context_close(&context);
    }
    free(blocks);
    return status;
}

/* --- stages --- */

static hb_status measure_stages(struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    struct hb_model_part all = {.expert_count = r->model->num_experts};
    for (int s = 0; s < plan->schedule.stages; s++) {
        HB_TRY(hb_dry_run(r->model, r->recompute, all, plan->stage_begin[s], plan->stage_begin[s + 1],
                          r->sequences, r->length, &plan->use[s]));
        plan->flops += plan->use[s].forward_flops + plan->use[s].input_flops + plan->use[s].weight_flops;
    }
    plan->flops *= (double)r->microbatches;
    return HB_OK;
}

static hb_status count_model(struct hb_plan *plan)
{
    struct hb_context context;
    struct hb_model *model = NULL;
    HB_TRY(hb_context_open(&hb_hollow_backend, HB_CANONICAL, 1, &context));
    hb_status status = hb_model_outline(&context, plan->request.model, NULL, &model);
    if (status == HB_OK) {
        plan->parameters = hb_model_parameter_count(model);
        plan->active = hb_model_active_parameter_count(model);
    }
    hb_model_destroy(model);
    hb_context_close(&context);
    return status;
}

static hb_status open_schedule(struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    int64_t blocks = r->model->num_hidden_layers + 2;
    struct hb_simulation equal;
    HB_TRY(hb_schedule_open(r->schedule, (int)r->shape.pp, plan->rounds, &plan->schedule));
    if (plan->schedule.stages > blocks)
        return HB_FAIL(HB_EARGUMENT,
                       "schedule %s has %d stages, the model only %lld blocks; use fewer ranks or chunks",
                       r->schedule, plan->schedule.stages, (long long)blocks);
    if (!hb_schedule_has(&plan->schedule, HB_ACTION_RECV_F))
        HB_TRY(hb_schedule_add_messages(&plan->schedule));
    HB_TRY(hb_simulate_equal(&plan->schedule, &equal));
    plan->equal = equal.utilisation;
    hb_simulation_release(&equal);
    plan->stage_begin = calloc((size_t)plan->schedule.stages + 1, sizeof *plan->stage_begin);
    plan->use = calloc((size_t)plan->schedule.stages, sizeof *plan->use);
    plan->cost = calloc((size_t)plan->schedule.stages, sizeof *plan->cost);
    plan->rank = calloc((size_t)r->shape.pp, sizeof *plan->rank);
    if (!plan->stage_begin || !plan->use || !plan->cost || !plan->rank)
        return HB_FAIL(HB_EMEMORY, "out of memory for a plan");
    return HB_OK;
}

static hb_status describe_rank(struct hb_plan *plan, int64_t pp_i)
{
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_plan_unit *units;
    int64_t count;
    rank->first_block = -1;
    for (int s = 0; s < plan->schedule.stages; s++) {
        if (plan->schedule.rank_of[s] != pp_i)
            continue;
        if (rank->first_block < 0)
            rank->first_block = plan->stage_begin[s];
        rank->last_block = plan->stage_begin[s + 1] - 1;
        rank->blocks += plan->stage_begin[s + 1] - plan->stage_begin[s];
        rank->flops += (plan->use[s].forward_flops + plan->use[s].input_flops + plan->use[s].weight_flops) *
                       (double)plan->mine;
    }
    rank->in_flight = hb_schedule_in_flight(&plan->schedule, (int)pp_i);
    HB_TRY(hb_plan_units(plan, pp_i, &units, &count));
    for (int64_t u = 0; u < count; u++)
        rank->trained += units[u].elements;
    free(units);
    return hb_plan_use(plan, pp_i);
}

/* Is the routing one of microbatches of this size? */
static hb_status check_routing(const struct hb_plan_request *r)
{
    int64_t rows = r->sequences * r->length * r->model->num_experts_per_tok;
    for (int64_t m = 0; r->routing && m < r->routing->microbatches; m++)
        for (int64_t l = 0; l < r->routing->layers; l++) {
            int64_t found = hb_routing_rows(r->routing, m, l, 0, r->routing->experts);
            if (found != rows)
                return HB_FAIL(HB_EARGUMENT,
                               "the routing has %lld rows of microbatch %lld in layer %lld, but %lld x %lld "
                               "tokens make %lld; take that of a run with the same microbatches",
                               (long long)found, (long long)m, (long long)l, (long long)r->sequences,
                               (long long)r->length, (long long)rows);
        }
    return HB_OK;
}

static hb_status make(struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    HB_TRY(check_routing(r));
    int64_t blocks = r->model->num_hidden_layers + 2;
    plan->ranks = r->shape.dp * r->shape.ep * r->shape.pp;
    plan->data_ranks = r->shape.dp * r->shape.ep;
    plan->rounds = (r->microbatches + plan->data_ranks - 1) / plan->data_ranks;
    plan->data_rank = r->data_rank < 0 ? plan->data_ranks - 1 : r->data_rank;
    struct hb_mesh mesh = {.data_ranks = plan->data_ranks};
    for (int64_t i = 0; i < plan->rounds; i++)
        plan->mine += hb_mesh_microbatch(&mesh, r->microbatches, r->level >= 2, i, plan->data_rank) >= 0;
    plan->tokens = r->microbatches * r->sequences * r->length;
    HB_TRY(hb_mesh_check(r->shape, plan->ranks, r->model->num_experts, blocks));
    HB_TRY(count_model(plan));
    HB_TRY(open_schedule(plan));
    if (r->costs)
        HB_TRY(hb_block_costs_cut(r->costs, plan->schedule.stages, plan->stage_begin));
    else
        HB_TRY(hb_cut_stages(r->model, r->recompute, r->sequences, r->length, plan->schedule.stages,
                             plan->stage_begin));
    HB_TRY(measure_stages(plan));
    for (int64_t pp_i = 0; pp_i < r->shape.pp; pp_i++) {
        HB_TRY(describe_rank(plan, pp_i));
        if (plan->rank[pp_i].total > plan->rank[plan->fattest].total)
            plan->fattest = pp_i;
    }
    return hb_plan_times(plan);
}

hb_status hb_plan_make(const struct hb_plan_request *request, struct hb_plan *plan)
{
    *plan = (struct hb_plan){.request = *request};
    hb_status status = make(plan);
    if (status != HB_OK)
        hb_plan_release(plan);
    return status;
}

void hb_plan_release(struct hb_plan *plan)
{
    hb_schedule_release(&plan->schedule);
    hb_simulation_release(&plan->simulation);
    free(plan->stage_begin);
    free(plan->use);
    free(plan->cost);
    free(plan->rank);
    *plan = (struct hb_plan){0};
}
