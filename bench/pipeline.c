/* A pipeline schedule, really executed by as many ranks as the program is started with, whose stages cost
 * what they are told: instead of computing they sleep, so that ranks on few processors do not disturb each
 * other. Messages are real.
 *
 *   mpiexec -n 4 bench/pipeline.bench zb-h1 12 [F I W [BYTES [blind]]]
 *
 * A rank looks at its messages every 2 ms, as the program does between ops; blind, only between actions. It
 * prints the share of time that the ranks were busy, and what the simulator says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/comm.h"
#include "ops/clock.h"
#include "parallel/simulate.h"

static const double unit = 0.1; /* seconds of a cost of 1: much longer than a sleep or a message is late */
static const double op = 0.002; /* seconds between two looks at messages, as a rank has between two ops */
/* Of a message: short enough to leave at once. Longer ones move only while their sender is inside of MPI. */
static size_t bytes = 1 << 10;

struct run {
    const struct hb_schedule *schedule;
    struct hb_stage_cost cost; /* of a stage */
    struct hb_comm *world;
    char *memory;
    double busy;
    bool looks; /* at messages, between ops */
};

/* Sleeps until a moment, not for a time: being late does not add up within an action. */
static void work(struct run *r, double cost)
{
    double until = hb_clock_now() + cost * unit, left;
    while ((left = until - hb_clock_now()) > 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * (left < op ? left : op))}, NULL);
        if (r->looks)
            hb_comm_progress(r->world);
    }
    r->busy += cost * unit;
}

static hb_status perform(struct run *r, const struct hb_action *a, struct hb_comm_request *sends,
                         int64_t *sent)
{
    struct hb_comm_request request;
    switch (a->kind) {
    case HB_ACTION_F:
        work(r, r->cost.forward);
        return HB_OK;
    case HB_ACTION_I:
        work(r, r->cost.input);
        return HB_OK;
    case HB_ACTION_W:
        work(r, r->cost.weight);
        return HB_OK;
    case HB_ACTION_B:
        work(r, r->cost.input + r->cost.weight);
        return HB_OK;
    case HB_ACTION_SEND_F:
    case HB_ACTION_SEND_B:
        return hb_comm_send(r->world, a->peer, r->memory, bytes, &sends[(*sent)++]);
    case HB_ACTION_RECV_F:
    case HB_ACTION_RECV_B:
        HB_TRY(hb_comm_receive(r->world, a->peer, r->memory + bytes, bytes, &request));
        return hb_comm_wait(r->world, &request, 1);
    default:
        return HB_OK;
    }
}

static hb_status execute(struct run *r, double *seconds)
{
    const struct hb_schedule_row *row = &r->schedule->rows[hb_comm_rank(r->world)];
    struct hb_comm_request *sends = calloc((size_t)row->count + 1, sizeof *sends);
    int64_t sent = 0;
    hb_status status = sends && r->memory ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory");
    HB_TRY(hb_comm_agree(r->world, status)); /* a barrier, too */
    double start = hb_clock_now();
    for (int64_t i = 0; i < row->count && status == HB_OK; i++)
        status = perform(r, &row->actions[i], sends, &sent);
    if (status == HB_OK)
        status = hb_comm_wait(r->world, sends, sent);
    status = hb_comm_agree(r->world, status);
    *seconds = hb_clock_now() - start;
    free(sends);
    return status;
}

static hb_status bench(int argc, char **argv, struct hb_comm *world)
{
    struct hb_schedule schedule;
    struct hb_simulation simulation;
    struct hb_stage_cost whole = {1, 1, 1, 0}, stage[HB_STAGES_MAX];
    int ranks = hb_comm_size(world);
    if (argc != 3 && (argc < 6 || argc > 8))
        return HB_FAIL(HB_EARGUMENT,
                       "usage: mpiexec -n RANKS pipeline.bench SCHEDULE MICROBATCHES "
                       "[F I W [BYTES [blind]]]");
    if (argc >= 7)
        bytes = (size_t)atoll(argv[6]);
    if (argc >= 6)
        whole = (struct hb_stage_cost){atof(argv[3]), atof(argv[4]), atof(argv[5]), 0};
    HB_TRY(hb_schedule_open(argv[1], ranks, atoll(argv[2]), &schedule));
    HB_TRY(hb_schedule_add_messages(&schedule));
    double chunks = (double)schedule.stages / ranks, seconds;
    struct run r = {.schedule = &schedule,
                    .cost = {whole.forward / chunks, whole.input / chunks, whole.weight / chunks, 0},
                    .world = world,
                    .looks = argc < 8,
                    .memory = calloc(2, bytes)};
    for (int s = 0; s < schedule.stages; s++)
        stage[s] = r.cost;
    HB_TRY(hb_simulate(&schedule, &(struct hb_costs){.stage = stage}, &simulation));
    HB_TRY(execute(&r, &seconds));
    int64_t busy = (int64_t)(1e9 * r.busy);
    HB_TRY(hb_comm_sum(world, &busy, 1));
    if (hb_comm_rank(world) == 0)
        printf("%-14s %d ranks, %s microbatches: executed %.1f %% busy, simulated %.1f %%\n", argv[1], ranks,
               argv[2], 100 * 1e-9 * (double)busy / (ranks * seconds), 100 * simulation.utilisation);
    free(r.memory);
    hb_simulation_release(&simulation);
    hb_schedule_release(&schedule);
    return HB_OK;
}

int main(int argc, char **argv)
{
    struct hb_comm *world;
    if (hb_comm_world(&world) != HB_OK || bench(argc, argv, world) != HB_OK) {
        fprintf(stderr, "pipeline: %s\n", hb_error());
        return 1;
    }
    hb_comm_destroy(world);
    return 0;
}
