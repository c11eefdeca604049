/* The simulator: how long a schedule takes, and who waits when, given what each action costs.
 *
 * A rank performs its row in order. An action begins when the one before it has ended and what it needs is
 * there; a message is there `message` seconds after it was sent. One step, all ranks free at time 0. */
#ifndef HB_PARALLEL_SIMULATE_H
#define HB_PARALLEL_SIMULATE_H

#include "parallel/schedule.h"

/* Seconds, or any unit of time. */
struct hb_stage_cost {
    double forward, input, weight; /* B costs input + weight */
    double gather;                 /* of the stage's parameters; the rank waits for it */
};

struct hb_costs {
    const struct hb_stage_cost *stage; /* [stages], of one microbatch */
    double message;                    /* from the end of SEND (or of the producer) to the receiver */
    double overhead;                   /* of the rank itself, for each SEND and each RECV */
};

struct hb_simulated_action {
    double begin, end; /* of a RECV: begin is when the rank begins to wait */
};

struct hb_simulated_rank {
    struct hb_simulated_action *actions; /* [rows[rank].count] */
    double busy;                         /* F, I, W, B */
    int64_t in_flight;                   /* microbatches of any stage held at once, at most */
};

struct hb_simulation {
    int ranks;
    struct hb_simulated_rank *rank;
    double makespan;
    double utilisation; /* busy time of all ranks over ranks * makespan */
};

/* With or without messages in the schedule, which must be checked. Releases with hb_simulation_release. */
HB_MUST_USE hb_status hb_simulate(const struct hb_schedule *schedule, const struct hb_costs *costs,
                                  struct hb_simulation *out);
void hb_simulation_release(struct hb_simulation *simulation);

/* Every stage costs 1 / chunks for F, I and W each, so that a rank's microbatch costs 3; messages cost
 * nothing. */
HB_MUST_USE hb_status hb_simulate_equal(const struct hb_schedule *schedule, struct hb_simulation *out);

/* The smallest number of microbatches with which schedule `name` on `ranks` ranks reaches `target`
 * utilisation at these costs of a rank's microbatch (spread evenly over its chunks); -1: not with `most`. For
 * `interleaved` only multiples of `ranks` are tried, which is what it is made for. */
HB_MUST_USE hb_status hb_smallest_microbatches(const char *name, int ranks, struct hb_stage_cost cost,
                                               double target, int64_t most, int64_t *microbatches,
                                               double *utilisation);

#endif
