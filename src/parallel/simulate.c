#include "parallel/simulate.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/schedule_index.h"

struct machine {
    const struct hb_schedule_index *index;
    const struct hb_costs *costs;
    struct hb_simulation *out;
    int64_t *at; /* next action of each rank */
};

static double cost_of(const struct hb_costs *costs, const struct hb_action *a)
{
    const struct hb_stage_cost *stage = &costs->stage[a->stage];
    switch (a->kind) {
    case HB_ACTION_F:
        return stage->forward;
    case HB_ACTION_I:
        return stage->input;
    case HB_ACTION_W:
        return stage->weight;
    case HB_ACTION_B:
        return stage->input + stage->weight;
    case HB_ACTION_GATHER:
        return stage->gather;
    case HB_ACTION_RELEASE:
        return 0;
    default:
        return costs->overhead;
    }
}

static bool is_work(enum hb_action_kind kind)
{
    return kind <= HB_ACTION_B;
}

/* When everything that `a` needs has arrived on its rank; false: not known yet. */
static bool arrival(const struct machine *m, int rank, const struct hb_action *a, double *when)
{
    struct hb_action needs[HB_ACTION_NEEDS_MAX];
    int n = hb_action_needs(m->index, a, needs);
    *when = 0;
    for (int i = 0; i < n; i++) {
        int from = m->index->schedule->rank_of[needs[i].stage];
        int64_t position = hb_schedule_position(m->index, needs[i].kind, needs[i].stage, needs[i].microbatch);
        if (position >= m->at[from])
            return false;
        double there = m->out->rank[from].actions[position].end + (from != rank ? m->costs->message : 0);
        if (there > *when)
            *when = there;
    }
    return true;
}

/* Runs a rank as far as it gets. */
static bool advance(struct machine *m, int rank)
{
    const struct hb_schedule_row *row = &m->index->schedule->rows[rank];
    struct hb_simulated_rank *out = &m->out->rank[rank];
    int64_t before = m->at[rank];
    for (double when; m->at[rank] < row->count; m->at[rank]++) {
        const struct hb_action *a = &row->actions[m->at[rank]];
        if (!arrival(m, rank, a, &when))
            break;
        double free_at = m->at[rank] ? out->actions[m->at[rank] - 1].end : 0, cost = cost_of(m->costs, a);
        double begin = when > free_at ? when : free_at;
        bool receives = a->kind == HB_ACTION_RECV_F || a->kind == HB_ACTION_RECV_B;
        out->actions[m->at[rank]] = (struct hb_simulated_action){receives ? free_at : begin, begin + cost};
        if (is_work(a->kind))
            out->busy += cost;
        if (begin + cost > m->out->makespan)
            m->out->makespan = begin + cost;
    }
    return m->at[rank] > before;
}

static hb_status run(struct machine *m)
{
    const struct hb_schedule *s = m->index->schedule;
    bool moved = true;
    while (moved) {
        moved = false;
        for (int r = 0; r < s->ranks; r++)
            moved |= advance(m, r);
    }
    double busy = 0;
    for (int r = 0; r < s->ranks; r++) {
        if (m->at[r] < s->rows[r].count)
            return HB_FAIL(HB_EFORMAT, "%s: cannot be simulated, it stands still at rank %d", s->name, r);
        m->out->rank[r].in_flight = hb_schedule_in_flight(s, r);
        busy += m->out->rank[r].busy;
    }
    m->out->utilisation = m->out->makespan > 0 ? busy / (s->ranks * m->out->makespan) : 1;
    return HB_OK;
}

static hb_status allocate(const struct hb_schedule *s, struct hb_simulation *out)
{
    *out = (struct hb_simulation){.ranks = s->ranks};
    out->rank = calloc((size_t)s->ranks, sizeof *out->rank);
    if (!out->rank)
        return HB_FAIL(HB_EMEMORY, "out of memory for a simulation");
    for (int r = 0; r < s->ranks; r++) {
        out->rank[r].actions = calloc((size_t)s->rows[r].count + 1, sizeof *out->rank[r].actions);
        if (!out->rank[r].actions)
            return HB_FAIL(HB_EMEMORY, "out of memory for a simulation");
    }
    return HB_OK;
}

hb_status hb_simulate(const struct hb_schedule *schedule, const struct hb_costs *costs,
                      struct hb_simulation *out)
{
    struct hb_schedule_index index;
    HB_TRY(hb_schedule_index_init(&index, schedule));
    struct machine m = {.index = &index, .costs = costs, .out = out};
    m.at = calloc((size_t)schedule->ranks, sizeof *m.at);
    hb_status status = allocate(schedule, out);
    if (status == HB_OK && !m.at)
        status = HB_FAIL(HB_EMEMORY, "out of memory for a simulation");
    if (status == HB_OK)
        status = run(&m);
    if (status != HB_OK)
        hb_simulation_release(out);
    free(m.at);
    hb_schedule_index_release(&index);
    return status;
}

void hb_simulation_release(struct hb_simulation *simulation)
{
    for (int r = 0; simulation->rank && r < simulation->ranks; r++)
        free(simulation->rank[r].actions);
    free(simulation->rank);
    *simulation = (struct hb_simulation){0};
}

/* `cost` is that of a rank's microbatch; its stages share it. */
static hb_status simulate_evenly(const struct hb_schedule *s, struct hb_stage_cost cost,
                                 struct hb_simulation *out)
{
    struct hb_stage_cost *stage = malloc((size_t)s->stages * sizeof *stage);
    if (!stage)
        return HB_FAIL(HB_EMEMORY, "out of memory for a simulation");
    double chunks = (double)s->stages / s->ranks;
    for (int i = 0; i < s->stages; i++)
        stage[i] = (struct hb_stage_cost){cost.forward / chunks, cost.input / chunks, cost.weight / chunks,
                                          0};
    hb_status status = hb_simulate(s, &(struct hb_costs){.stage = stage}, out);
    free(stage);
    return status;
}

hb_status hb_simulate_equal(const struct hb_schedule *schedule, struct hb_simulation *out)
{
    return simulate_evenly(schedule, (struct hb_stage_cost){1, 1, 1, 0}, out);
}

hb_status hb_smallest_microbatches(const char *name, int ranks, struct hb_stage_cost cost, double target,
                                   int64_t most, int64_t *microbatches, double *utilisation)
{
    int64_t by = strncmp(name, "interleaved", 11) == 0 ? ranks : 1;
    for (int64_t m = by; m <= most; m += by) {
        struct hb_schedule schedule;
        struct hb_simulation simulation;
        HB_TRY(hb_schedule_generate(name, ranks, m, &schedule));
        hb_status status = simulate_evenly(&schedule, cost, &simulation);
        hb_schedule_release(&schedule);
        HB_TRY(status);
        *utilisation = simulation.utilisation;
        *microbatches = m;
        hb_simulation_release(&simulation);
        if (*utilisation >= target)
            return HB_OK;
    }
    *microbatches = -1;
    return HB_OK;
}
