/* One microbatch in one stage (parallel/executor.h). */
#ifndef HB_PARALLEL_LANE_H
#define HB_PARALLEL_LANE_H

#include "parallel/executor.h"

struct hb_lane {
    struct hb_carry carry;
    struct hb_tape tape;
    int stage;
    int64_t round, microbatch; /* microbatch -1: none, no rows */
    struct hb_var *input, *output; /* of the stage; NULL: first, last, or handed on */
    int64_t *entries;          /* [blocks of the stage + 1]: where each block's record begins */
    bool weights_done;
    struct hb_lane *next; /* idle ones */
};

/* The lane of (stage, round), made if it is not alive. */
HB_MUST_USE hb_status hb_lane_open(struct hb_executor *executor, int stage, int64_t round, int64_t microbatch,
                                   const struct hb_batch *batch, struct hb_gradients *gradients,
                                   struct hb_lane **out);
struct hb_lane *hb_lane_find(const struct hb_executor *executor, int stage, int64_t round);
/* Lets it go when nothing of it is needed any more. */
void hb_lane_close(struct hb_executor *executor, struct hb_lane *lane);
void hb_lanes_release(struct hb_executor *executor);

/* --- what passes between stages (transfer.c) --- */

HB_MUST_USE hb_status hb_send_forward(struct hb_executor *executor, struct hb_lane *lane);
HB_MUST_USE hb_status hb_receive_forward(struct hb_executor *executor, struct hb_lane *lane);
HB_MUST_USE hb_status hb_send_backward(struct hb_executor *executor, struct hb_lane *lane);
HB_MUST_USE hb_status hb_receive_backward(struct hb_executor *executor, struct hb_lane *lane);
/* The same between two stages of one rank. */
HB_MUST_USE hb_status hb_hand_forward(struct hb_executor *executor, struct hb_lane *from, struct hb_lane *to);
HB_MUST_USE hb_status hb_hand_backward(struct hb_executor *executor, struct hb_lane *from,
                                       struct hb_lane *to);
/* Waits for all messages that are on their way. */
HB_MUST_USE hb_status hb_transfers_finish(struct hb_executor *executor);
/* Their memory, after a failure: nothing is on its way any more (hb_comm_fail). */
void hb_transfers_drop(struct hb_executor *executor);

#endif
