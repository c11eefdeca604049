/* Where in its row an action stands, and what it waits for: for the validator, the simulator
 * and executors. */
#ifndef HB_PARALLEL_SCHEDULE_INDEX_H
#define HB_PARALLEL_SCHEDULE_INDEX_H

#include "parallel/schedule.h"

struct hb_schedule_index {
    const struct hb_schedule *schedule;
    bool messages;                       /* the schedule has SEND and RECV */
    int32_t *position[HB_ACTION_GATHER]; /* [stages * microbatches] of each kind, -1: not there */
};

/* HB_EFORMAT: an action of work is missing or doubled. */
HB_MUST_USE hb_status hb_schedule_index_init(struct hb_schedule_index *index,
                                             const struct hb_schedule *schedule);
void hb_schedule_index_release(struct hb_schedule_index *index);

/* Position in its rank's row, or -1. */
int64_t hb_schedule_position(const struct hb_schedule_index *index, enum hb_action_kind kind, int stage,
                             int64_t microbatch);

/* B or I: which of them makes the gradient of this stage's input. */
enum hb_action_kind hb_schedule_gradient_kind(const struct hb_schedule_index *index, int stage,
                                              int64_t microbatch);

/* The actions that must have ended before `action` may begin; at most two. GATHER and RELEASE need none. */
enum { HB_ACTION_NEEDS_MAX = 2 };
int hb_action_needs(const struct hb_schedule_index *index, const struct hb_action *action,
                    struct hb_action needs[HB_ACTION_NEEDS_MAX]);

#endif
