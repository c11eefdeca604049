#include "parallel/executor.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "parallel/exchange.h"
#include "parallel/lane.h"

/* --- life --- */

hb_status hb_executor_init(struct hb_executor *e)
{
    hb_pool_init(&e->pool, e->context, HB_MEMORY_ACTIVATIONS);
    e->lanes = calloc((size_t)(e->schedule->stages * e->schedule->microbatches), sizeof *e->lanes);
    if (!e->lanes)
        return HB_FAIL(HB_EMEMORY, "out of memory for the executor of a schedule");
    return hb_results_init(&e->results, e->model, e->mesh, e->schedule->microbatches);
}

void hb_executor_release(struct hb_executor *e)
{
    if (!e->context)
        return;
    hb_transfers_drop(e);
    hb_lanes_release(e);
    free(e->lanes);
    hb_results_release(&e->results);
    hb_pool_release(&e->pool);
    *e = (struct hb_executor){0};
}

void hb_executor_footprint(const struct hb_executor *e, int64_t bytes[HB_FOOTPRINTS])
{
    bytes[HB_FOOTPRINT_GATHERED] = e->sharding->pool.in_use_peak;
    bytes[HB_FOOTPRINT_ACTIVATIONS] = e->pool.in_use_peak;
    bytes[HB_FOOTPRINT_FOLD] = e->gradients->pool.in_use_peak;
    bytes[HB_FOOTPRINT_EXCHANGE] = (int64_t)(e->sharding->send_size + e->sharding->recv_size) +
                                   (e->exchange ? hb_expert_exchange_bytes(e->exchange) : 0);
    bytes[HB_FOOTPRINT_MESSAGES] = e->message_peak;
}

/* --- actions --- */

static bool is_last(const struct hb_executor *e, int stage)
{
    return stage == e->stages->count - 1;
}

static bool is_mine(const struct hb_executor *e, int stage)
{
    return e->stages->rank_of[stage] == (int)e->mesh->pp_i;
}

static hb_status open_lane(struct hb_executor *e, int stage, int64_t round, struct hb_lane **lane)
{
    *lane = hb_lane_find(e, stage, round);
    if (*lane)
        return HB_OK;
    int64_t m = hb_mesh_microbatch(e->mesh, e->microbatches, hb_reducer_scattered(e->reducer), round,
                                   e->mesh->data_rank);
    return hb_lane_open(e, stage, round, m, m < 0 ? NULL : &e->batches[m], e->gradients, lane);
}

/* A postponed weight gradient needs weights only where something is made again. */
static bool weight_gathers(const struct hb_executor *e)
{
    return e->model->recompute.kind != HB_RECOMPUTE_NONE;
}

/* Gathers a block that is about to run, and begins to gather the one that runs after it: `next`, unless the
 * block is the action's `last`; then that of the next action. */
static hb_status gather(struct hb_executor *e, int64_t block, int64_t last, int64_t next)
{
    HB_TRY(hb_blocks_gather(e->sharding, block, block + 1));
    next = block == last ? e->next_block : next;
    return next < 0 ? HB_OK : hb_blocks_ahead(e->sharding, next, next + 1);
}

/* The blocks of a lane's stage, each with its weights there while it runs. */
static hb_status run_forward(struct hb_executor *e, struct hb_lane *lane)
{
    const int64_t begin = e->stages->first_block[lane->stage], end = e->stages->first_block[lane->stage + 1];
    hb_trace_microbatch(e->context, lane->microbatch);
    for (int64_t b = begin; b < end; b++) {
        lane->entries[b - begin] = lane->tape.entry_count;
        HB_TRY(gather(e, b, end - 1, b + 1));
        HB_TRY(hb_model_forward_blocks(e->model, &lane->tape, &lane->carry, b, b + 1));
        hb_blocks_release(e->sharding, b, b + 1);
    }
    lane->entries[end - begin] = lane->tape.entry_count;
    HB_TRY(hb_fault_point(HB_FAULT_FORWARD));
    if (hb_tape_recording(&lane->tape) && lane->microbatch >= 0)
        HB_TRY(hb_results_keep(&e->results, &lane->carry, lane->microbatch, lane->round,
                               (struct hb_range){begin, end}, e->timeline));
    lane->output = lane->carry.residual;
    lane->carry.residual = NULL;
    return HB_OK;
}

static hb_status forward(struct hb_executor *e, int stage, int64_t round)
{
    struct hb_lane *lane;
    HB_TRY(open_lane(e, stage, round, &lane));
    if (stage > 0 && !lane->carry.residual)
        HB_TRY(hb_hand_forward(e, hb_lane_find(e, stage - 1, round), lane));
    return run_forward(e, lane);
}

static hb_status backward(struct hb_executor *e, int stage, int64_t round, bool weights)
{
    struct hb_lane *lane = hb_lane_find(e, stage, round);
    int64_t begin = e->stages->first_block[stage], end = e->stages->first_block[stage + 1];
    if (!is_last(e, stage) && !lane->output->grad_buffer) {
        struct hb_lane *from = hb_lane_find(e, stage + 1, round);
        HB_TRY(hb_hand_backward(e, from, lane));
        hb_lane_close(e, from);
    }
    hb_trace_microbatch(e->context, lane->microbatch);
    for (int64_t b = end - 1; b >= begin; b--) {
        HB_TRY(gather(e, b, begin, b - 1));
        HB_TRY(hb_tape_backward_input(&lane->tape, lane->entries[b - begin], lane->entries[b - begin + 1],
                                      weights));
        hb_blocks_release(e->sharding, b, b + 1);
        if (weights)
            HB_TRY(hb_reduce_block(e->reducer, b, round));
    }
    hb_var_drop(&lane->tape, lane->output);
    lane->output = NULL;
    lane->weights_done = weights;
    hb_lane_close(e, lane);
    return HB_OK;
}

static hb_status weight(struct hb_executor *e, int stage, int64_t round)
{
    struct hb_lane *lane = hb_lane_find(e, stage, round);
    int64_t begin = e->stages->first_block[stage], end = e->stages->first_block[stage + 1];
    hb_trace_microbatch(e->context, lane->microbatch);
    for (int64_t b = end - 1; b >= begin; b--) {
        bool again = weight_gathers(e);
        if (again)
            HB_TRY(gather(e, b, begin, b - 1));
        HB_TRY(hb_tape_backward_weight(&lane->tape, lane->entries[b - begin], lane->entries[b - begin + 1]));
        if (again)
            hb_blocks_release(e->sharding, b, b + 1);
        HB_TRY(hb_reduce_block(e->reducer, b, round));
    }
    lane->weights_done = true;
    hb_lane_close(e, lane);
    return HB_OK;
}

static hb_status perform(struct hb_executor *e, const struct hb_action *a)
{
    struct hb_lane *lane;
    int64_t begin = e->stages->first_block[a->stage], end = e->stages->first_block[a->stage + 1];
    switch (a->kind) {
    case HB_ACTION_F:
        return forward(e, a->stage, a->microbatch);
    case HB_ACTION_I:
        return backward(e, a->stage, a->microbatch, false);
    case HB_ACTION_B:
        return backward(e, a->stage, a->microbatch, true);
    case HB_ACTION_W:
        return weight(e, a->stage, a->microbatch);
    case HB_ACTION_SEND_F:
        return hb_send_forward(e, hb_lane_find(e, a->stage, a->microbatch));
    case HB_ACTION_RECV_F:
        HB_TRY(open_lane(e, a->stage, a->microbatch, &lane));
        return hb_receive_forward(e, lane);
    case HB_ACTION_SEND_B:
        lane = hb_lane_find(e, a->stage, a->microbatch);
        HB_TRY(hb_send_backward(e, lane));
        hb_lane_close(e, lane);
        return HB_OK;
    case HB_ACTION_RECV_B:
        return hb_receive_backward(e, hb_lane_find(e, a->stage, a->microbatch));
    case HB_ACTION_GATHER:
        return hb_blocks_gather(e->sharding, begin, end);
    case HB_ACTION_RELEASE:
        hb_blocks_release(e->sharding, begin, end);
        return HB_OK;
    default:
        return HB_FAIL(HB_EINTERNAL, "an action of kind %d", (int)a->kind);
    }
}

/* The first block that the actions from number i on gather; -1: none. */
static int64_t next_block(const struct hb_executor *e, const struct hb_schedule_row *row, int64_t i)
{
    for (; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        if (a->kind == HB_ACTION_F)
            return e->stages->first_block[a->stage];
        if (a->kind == HB_ACTION_I || a->kind == HB_ACTION_B || (a->kind == HB_ACTION_W && weight_gathers(e)))
            return e->stages->first_block[a->stage + 1] - 1;
    }
    return -1;
}

/* In the timeline: what of it no message and no other rank is waited for. */
static hb_status perform_timed(struct hb_executor *e, const struct hb_action *a)
{
    char text[HB_ACTION_TEXT];
    bool computes = a->kind == HB_ACTION_F || a->kind == HB_ACTION_I || a->kind == HB_ACTION_W ||
                    a->kind == HB_ACTION_B;
    hb_timeline_begin(e->timeline);
    hb_status status = perform(e, a);
    hb_timeline_end(e->timeline, computes ? HB_SPAN_COMPUTE : HB_SPAN_OTHER, hb_action_text(a, text));
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s", hb_action_text(a, text));
}

hb_status hb_executor_step(struct hb_executor *e, const struct hb_batch *batches, int64_t M,
                           struct hb_factors factors)
{
    const struct hb_schedule_row *row = &e->schedule->rows[e->mesh->pp_i];
    if (hb_mesh_rounds(e->mesh, M) != e->schedule->microbatches)
        return HB_FAIL(HB_EINTERNAL, "a step of %lld microbatches under a schedule of %lld rounds",
                       (long long)M, (long long)e->schedule->microbatches);
    e->microbatches = M;
    e->batches = batches;
    e->factors = factors;
    e->pool.in_use_peak = e->pool.in_use;
    e->sharding->pool.in_use_peak = e->sharding->pool.in_use;
    e->message_peak = e->message_bytes;
    HB_TRY(hb_results_begin(&e->results, M));
    hb_reduce_begin(e->reducer, M);
    for (int64_t i = 0; i < row->count; i++) {
        e->next_block = next_block(e, row, i + 1);
        HB_TRY(perform_timed(e, &row->actions[i]));
    }
    hb_trace_microbatch(e->context, -1);
    HB_TRY(hb_transfers_finish(e));
    HB_TRY(hb_fault_point(HB_FAULT_FOLD));
    hb_timeline_begin(e->timeline);
    hb_status status = hb_reduce_close(e->reducer);
    hb_timeline_end(e->timeline, HB_SPAN_COMPUTE, "fold");
    return status;
}

hb_status hb_executor_report(struct hb_executor *e)
{
    return hb_results_report(&e->results);
}

/* --- evaluation --- */

static hb_status evaluate_stage(struct hb_executor *e, int stage, int64_t m, const struct hb_batch *batch,
                                double *sum)
{
    struct hb_lane *lane;
    HB_TRY(hb_lane_open(e, stage, 0, m, batch, NULL, &lane));
    if (stage > 0 && is_mine(e, stage - 1)) {
        struct hb_lane *from = hb_lane_find(e, stage - 1, 0);
        HB_TRY(hb_hand_forward(e, from, lane));
        hb_lane_close(e, from);
    } else if (stage > 0) {
        HB_TRY(hb_receive_forward(e, lane));
    }
    HB_TRY(run_forward(e, lane));
    if (is_last(e, stage) && m >= 0)
        HB_TRY(hb_copy_out(e->context, sum, lane->carry.loss_sum));
    if (!is_last(e, stage) && !is_mine(e, stage + 1))
        HB_TRY(hb_send_forward(e, lane));
    hb_lane_close(e, lane);
    return HB_OK;
}

hb_status hb_executor_evaluate(struct hb_executor *e, const struct hb_batch *batches, int64_t count,
                               double *sums)
{
    bool *filled = calloc((size_t)count, sizeof *filled);
    int64_t D = e->mesh->data_ranks;
    e->next_block = -1;
    hb_status status = filled ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for an evaluation");
    for (int64_t first = 0; status == HB_OK && first < count; first += D) {
        int64_t m = first + e->mesh->data_rank < count ? first + e->mesh->data_rank : -1;
        for (int s = 0; status == HB_OK && s < e->stages->count; s++)
            if (is_mine(e, s))
                status = evaluate_stage(e, s, m, m < 0 ? NULL : &batches[m], m < 0 ? NULL : &sums[m]);
        if (m >= 0)
            filled[m] = is_mine(e, e->stages->count - 1);
    }
    if (status == HB_OK)
        status = hb_transfers_finish(e);
    if (status == HB_OK)
        status = hb_results_gather(e->mesh->world, count, filled, sums);
    free(filled);
    return status;
}
