/* Seconds of a step: FLOPs, bytes and messages over the machine's rates, put together by the simulator. */
#include <stdlib.h>

#include "parallel/hollow.h"
#include "parallel/plan.h"

/* Types are those of a backend that holds fp32. */
static const struct hb_context hollow = {.backend = &hb_hollow_backend};

/* The slower of what stays inside nodes and what leaves them, for `bytes` that a rank sends evenly to the
 * others of a group of `count` ranks, `stride` apart in the world. */
static double transfer(const struct hb_machine *m, int64_t count, int64_t stride, double messages,
                       double bytes)
{
    int64_t near = m->node / stride < 1 ? 1 : m->node / stride;
    if (near > count)
        near = count;
    if (count < 2)
        return 0;
    double outside = (double)(count - near) / (double)(count - 1);
    double in = (1 - outside) * (messages * m->inside.latency + bytes / m->inside.bandwidth);
    double out = outside * (messages * m->between.latency + bytes / m->between.bandwidth);
    return in > out ? in : out;
}

/* Of one stage and microbatch. */
struct stage_time {
    double exchange, gather; /* in F; the same again in I */
    double reduce;           /* with W, at levels 2 and 3 */
};

static bool is_expert_block(const struct hb_model_config *c, int64_t b)
{
    return b >= 1 && b <= c->num_hidden_layers && hb_model_config_is_moe(c, b - 1);
}

/* Of one exchange of a row, there or back, on the mean of the four: rows, outputs, and the gradients of
 * both. */
static double row_bytes(const struct hb_plan *plan)
{
    const struct hb_precision *p = &plan->request.model->precision;
    size_t bytes = hb_dtype_size(hb_class_dtype(&hollow, p, HB_CLASS_DISPATCHED)) +
                   hb_dtype_size(hb_class_dtype(&hollow, p, HB_CLASS_COMBINED)) +
                   hb_dtype_size(hb_class_grad_dtype(&hollow, p, HB_CLASS_DISPATCHED)) +
                   hb_dtype_size(hb_class_grad_dtype(&hollow, p, HB_CLASS_COMBINED));
    return (double)bytes / 4 * (double)plan->request.model->hidden_size;
}

static struct stage_time stage_time(const struct hb_plan *plan, int stage, const struct hb_plan_unit *units,
                                    int64_t count)
{
    const struct hb_plan_request *r = &plan->request;
    struct stage_time t = {0};
    double rows = (double)(r->sequences * r->length * r->model->num_experts_per_tok);
    double leaving = row_bytes(plan) * rows * (double)(r->shape.ep - 1) / (double)r->shape.ep;
    for (int64_t b = plan->stage_begin[stage]; b < plan->stage_begin[stage + 1]; b++)
        if (is_expert_block(r->model, b))
            t.exchange += 2 * transfer(&r->machine, r->shape.ep, 1, (double)(r->shape.ep - 1), leaving);
    for (int64_t u = 0; u < count; u++) {
        const struct hb_plan_unit *unit = &units[u];
        if (unit->block < plan->stage_begin[stage] || unit->block >= plan->stage_begin[stage + 1])
            continue;
        int64_t stride = unit->experts ? r->shape.ep : 1;
        double others = (double)(unit->ranks - 1), elements = (double)unit->shard * others;
        if (r->level == 3)
            t.gather += transfer(&r->machine, unit->ranks, stride, others, unit->weight * elements);
        if (r->level >= 2)
            t.reduce += transfer(&r->machine, unit->ranks, stride, others, unit->gradient * elements);
    }
    return t;
}

/* A gather of the next block hides behind the computation of this one; what is longer shows. */
static double exposed(double gather, double compute)
{
    return gather > compute ? gather - compute : 0;
}

/* Seconds of a stage's own work: measured or given, else counted. */
static struct hb_stage_cost work_of(const struct hb_plan *plan, int stage)
{
    const struct hb_stage_use *use = &plan->use[stage];
    double rate = plan->request.machine.compute;
    if (plan->request.costs)
        return hb_block_costs_sum(plan->request.costs, plan->stage_begin[stage],
                                  plan->stage_begin[stage + 1]);
    return (struct hb_stage_cost){use->forward_flops / rate, use->input_flops / rate,
                                  use->weight_flops / rate, 0};
}

static hb_status cost_stages(struct hb_plan *plan)
{
    double n = (double)plan->rounds;
    for (int s = 0; s < plan->schedule.stages; s++) {
        struct hb_plan_unit *units;
        int64_t count, pp_i = plan->schedule.rank_of[s];
        HB_TRY(hb_plan_units(plan, pp_i, &units, &count));
        struct stage_time t = stage_time(plan, s, units, count);
        free(units);
        struct hb_stage_cost work = work_of(plan, s);
        double gather_f = exposed(t.gather, work.forward), gather_i = exposed(t.gather, work.input);
        plan->cost[s] = (struct hb_stage_cost){work.forward + t.exchange + gather_f,
                                               work.input + t.exchange + gather_i, work.weight + t.reduce, 0};
        double *seconds = plan->rank[pp_i].seconds;
        seconds[HB_PLAN_COMPUTING] += n * (work.forward + work.input + work.weight);
        seconds[HB_PLAN_EXCHANGING] += n * 2 * t.exchange;
        seconds[HB_PLAN_GATHERING] += n * (gather_f + gather_i);
        seconds[HB_PLAN_REDUCING] += n * t.reduce;
    }
    return HB_OK;
}

/* Bytes an element of an update: the gradient twice (finite and norm; update), two moments read and written,
 * the weight read and written, or its master, and then the weight written. */
static double update_bytes(const struct hb_plan *plan, const struct hb_plan_unit *unit)
{
    bool master = unit->weight < 4 && !plan->request.model->precision.no_masters;
    return 2 * unit->gradient + 16 + (master ? 8 + unit->weight : 2 * unit->weight);
}

/* Behind the pipeline: reduction at levels 0 and 1, update, weights to all at levels 0 to 2. */
static hb_status cost_end(struct hb_plan *plan, int64_t pp_i)
{
    const struct hb_plan_request *r = &plan->request;
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_plan_unit *units;
    int64_t count;
    HB_TRY(hb_plan_units(plan, pp_i, &units, &count));
    double nodes = 0, whole = 0;
    for (int64_t u = 0; u < count; u++)
        whole += units[u].ranks > 1 ? units[u].gradient * (double)(units[u].elements - units[u].shard) : 0;
    if (whole > 0 && r->level < 2)
        nodes = rank->sent[HB_PLAN_REDUCE] / whole;
    for (int64_t u = 0; u < count; u++) {
        const struct hb_plan_unit *unit = &units[u];
        int64_t stride = unit->experts ? r->shape.ep : 1;
        double others = (double)(unit->ranks - 1), elements = (double)unit->shard * others;
        rank->seconds[HB_PLAN_REDUCING] +=
            nodes * transfer(&r->machine, unit->ranks, stride, others, unit->gradient * elements);
        if (r->level < 3)
            rank->seconds[HB_PLAN_GATHERING] +=
                transfer(&r->machine, unit->ranks, stride, others, unit->weight * elements);
        /* At level 0 every rank updates everything. */
        double updated = r->level == 0 || unit->ranks == 1 ? (double)unit->elements : (double)unit->shard;
        rank->seconds[HB_PLAN_UPDATING] += update_bytes(plan, unit) * updated / r->machine.memory_bandwidth;
    }
    free(units);
    return HB_OK;
}

static double end_of(const struct hb_plan *plan, const struct hb_plan_rank *rank)
{
    double in_stages = plan->request.level >= 2 ? rank->seconds[HB_PLAN_REDUCING] : 0;
    double gathered = plan->request.level == 3 ? rank->seconds[HB_PLAN_GATHERING] : 0;
    return rank->seconds[HB_PLAN_REDUCING] - in_stages + rank->seconds[HB_PLAN_GATHERING] - gathered +
           rank->seconds[HB_PLAN_UPDATING];
}

static struct hb_costs costs_of(const struct hb_plan *plan)
{
    const struct hb_plan_request *r = &plan->request;
    double bytes = (double)hb_dtype_size(hb_class_dtype(&hollow, &r->model->precision, HB_CLASS_BLOCK)) *
                   (double)(r->sequences * r->length * r->model->hidden_size);
    return (struct hb_costs){.stage = plan->cost,
        .message = transfer(&r->machine, 2, plan->data_ranks, 1, bytes)};
}

/* The least number of rounds with which the schedule, at these costs of stages, reaches the target. */
static hb_status find_least(struct hb_plan *plan)
{
    enum { MOST = 256 };
    struct hb_costs costs = costs_of(plan);
    const char *name = plan->request.schedule;
    int ranks = plan->schedule.ranks;
    int64_t by = hb_schedule_chunks(name) > 1 && plan->schedule.rank_of[ranks - 1] == ranks - 1 &&
                         plan->schedule.stages > ranks && plan->schedule.rank_of[ranks] == 0
                     ? ranks
                     : 1; /* interleaved: whole groups */
    plan->least = -1;
    for (int64_t m = by; m <= MOST && hb_schedule_is_name(name); m += by) {
        struct hb_schedule schedule;
        struct hb_simulation simulation;
        HB_TRY(hb_schedule_generate(name, ranks, m, &schedule));
        hb_status status = hb_simulate(&schedule, &costs, &simulation);
        hb_schedule_release(&schedule);
        HB_TRY(status);
        plan->least_utilisation = simulation.utilisation;
        hb_simulation_release(&simulation);
        if (plan->least_utilisation >= plan->request.target) {
            plan->least = m;
            break;
        }
    }
    return HB_OK;
}

hb_status hb_plan_times(struct hb_plan *plan)
{
    HB_TRY(cost_stages(plan));
    struct hb_costs costs = costs_of(plan);
    HB_TRY(hb_simulate(&plan->schedule, &costs, &plan->simulation));
    double longest = 0, most = -1;
    for (int64_t pp_i = 0; pp_i < plan->request.shape.pp; pp_i++) {
        struct hb_plan_rank *rank = &plan->rank[pp_i];
        HB_TRY(cost_end(plan, pp_i));
        if (end_of(plan, rank) > longest)
            longest = end_of(plan, rank);
        if (plan->simulation.rank[pp_i].busy > plan->simulation.rank[plan->slowest].busy)
            plan->slowest = pp_i;
    }
    plan->seconds = plan->simulation.makespan + longest;
    for (int64_t pp_i = 0; pp_i < plan->request.shape.pp; pp_i++) {
        struct hb_plan_rank *rank = &plan->rank[pp_i];
        rank->seconds[HB_PLAN_BUBBLE] = plan->seconds - plan->simulation.rank[pp_i].busy - end_of(plan, rank);
    }
    for (int t = 0; t < HB_PLAN_TIMES; t++)
        if (plan->rank[plan->slowest].seconds[t] > most) {
            most = plan->rank[plan->slowest].seconds[t];
            plan->bottleneck = (enum hb_plan_time)t;
        }
    return find_least(plan);
}
