#include "parallel/executor.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "parallel/exchange.h"
#include "parallel/lane.h"

/* --- results --- */

/* Per microbatch: loss, tokens, then aux and z of each layer. */
static int64_t value_count(const struct hb_step_results *r)
{
    return 2 + 2 * r->layers;
}

static hb_status results_begin(struct hb_executor *e, int64_t M)
{
    struct hb_step_results *r = &e->results;
    if (M > r->microbatches) {
        double *grown = realloc(r->values, (size_t)(M * value_count(r)) * sizeof *grown);
        bool *flags = realloc(r->filled, (size_t)(M * value_count(r)) * sizeof *flags);
        r->values = grown ? grown : r->values;
        r->filled = flags ? flags : r->filled;
        if (!grown || !flags)
            return HB_FAIL(HB_EMEMORY, "out of memory for the results of %lld microbatches", (long long)M);
        r->microbatches = M;
    }
    memset(r->filled, 0, (size_t)(M * value_count(r)) * sizeof *r->filled);
    int64_t counts = r->layers * r->experts + hb_comm_size(e->mesh->world); /* those of ranks among them */
    if (r->counts)
        memset(r->counts, 0, (size_t)counts * sizeof *r->counts);
    return HB_OK;
}

static void put(struct hb_step_results *r, int64_t m, int64_t which, double value)
{
    int64_t i = m * value_count(r) + which;
    r->values[i] = value;
    r->filled[i] = true;
}

static double get(const struct hb_step_results *r, int64_t m, int64_t which)
{
    return r->values[m * value_count(r) + which];
}

double hb_result_loss(const struct hb_step_results *r, int64_t m)
{
    return get(r, m, 0);
}

int64_t hb_result_tokens(const struct hb_step_results *r, int64_t m)
{
    return (int64_t)get(r, m, 1);
}

double hb_result_aux(const struct hb_step_results *r, int64_t m, int64_t layer)
{
    return get(r, m, 2 + layer);
}

double hb_result_z(const struct hb_step_results *r, int64_t m, int64_t layer)
{
    return get(r, m, 2 + r->layers + layer);
}

static hb_status keep_layer(struct hb_executor *e, const struct hb_lane *lane, int64_t l)
{
    struct hb_step_results *r = &e->results;
    const struct hb_balance *b = &lane->carry.balance;
    double z;
    float aux;
    HB_TRY(hb_copy_out(e->context, &z, hb_tensor_rows(b->z_squares, l, 1)));
    put(r, lane->microbatch, 2 + r->layers + l, z);
    if (b->kind == HB_BALANCE_LAYER) {
        HB_TRY(hb_copy_out_f32(e->context, &aux, hb_tensor_rows(b->aux, l, 1)));
        put(r, lane->microbatch, 2 + l, (double)aux);
    }
    HB_TRY(hb_copy_out(e->context, e->layer_counts, hb_tensor_rows(b->counts, l, 1)));
    for (int64_t i = 0; i < r->experts; i++)
        r->counts[l * r->experts + i] += e->layer_counts[i];
    if (hb_tape_recording(&lane->tape))
        hb_timeline_routing(e->timeline, lane->microbatch, l, e->layer_counts, r->experts);
    return HB_OK;
}

/* What a lane's forward pass leaves, of the blocks that it has. */
static hb_status keep(struct hb_executor *e, const struct hb_lane *lane, int64_t begin, int64_t end)
{
    struct hb_step_results *r = &e->results;
    if (lane->microbatch < 0)
        return HB_OK;
    for (int64_t b = begin; b < end; b++) {
        int64_t layer = b - 1;
        if (layer >= 0 && layer < e->model->config.num_hidden_layers && e->model->decoders[layer].is_moe)
            HB_TRY(keep_layer(e, lane, e->model->decoders[layer].moe.layer));
    }
    if (end < e->model->block_count)
        return HB_OK;
    double loss;
    float aux;
    HB_TRY(hb_copy_out(e->context, &loss, lane->carry.loss_sum));
    put(r, lane->microbatch, 0, loss);
    put(r, lane->microbatch, 1, (double)lane->carry.ids.shape[0]);
    if (r->layers && lane->carry.balance.kind == HB_BALANCE_HF) {
        HB_TRY(hb_copy_out_f32(e->context, &aux, hb_tensor_rows(lane->carry.balance.aux, 0, 1)));
        put(r, lane->microbatch, 2, (double)aux);
    }
    return HB_OK;
}

struct record {
    int64_t place;
    double value;
};

/* Every rank's values to every rank. */
static hb_status gather_values(struct hb_executor *e, int64_t count, const bool *filled, double *values)
{
    int ranks = hb_comm_size(e->mesh->world);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes), own = 0, all = 0;
    int64_t *counts = calloc((size_t)ranks, sizeof *counts), n = 0;
    struct record *mine = malloc((size_t)count * sizeof *mine + 1), *records = NULL;
    hb_status status = bytes && counts && mine ? HB_OK
                                               : HB_FAIL(HB_EMEMORY, "out of memory for the step's report");
    for (int64_t i = 0; status == HB_OK && i < count; i++)
        if (filled[i])
            mine[n++] = (struct record){i, values[i]};
    for (int r = 0; status == HB_OK && r < ranks; r++)
        bytes[r] = sizeof n;
    HB_TRY_CLEAN(status);
    HB_TRY_CLEAN(hb_comm_gather(e->mesh->world, &n, counts, bytes));
    for (int r = 0; r < ranks; r++) {
        bytes[r] = (size_t)counts[r] * sizeof *mine;
        all += bytes[r];
    }
    records = malloc(all + 1);
    HB_TRY_CLEAN(records ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the step's report"));
    HB_TRY_CLEAN(hb_comm_gather(e->mesh->world, mine, records, bytes));
    own = all / sizeof *records;
    for (size_t i = 0; i < own; i++)
        values[records[i].place] = records[i].value;
cleanup:
    free(bytes);
    free(counts);
    free(mine);
    free(records);
    return status;
}

/* The rows of this rank's experts come from all ranks with which it divides them. */
static hb_status count_own_rows(struct hb_executor *e)
{
    struct hb_step_results *r = &e->results;
    int64_t n = r->layers * r->experts, *counts = malloc((size_t)n * sizeof *counts + 1);
    if (!counts)
        return HB_FAIL(HB_EMEMORY, "out of memory for the step's report");
    memcpy(counts, r->counts, (size_t)n * sizeof *counts);
    hb_status status = hb_comm_sum(e->mesh->experts, counts, n);
    struct hb_range own = hb_share(r->experts, e->mesh->shape.ep, e->mesh->ep_i);
    for (int64_t l = 0; l < r->layers; l++)
        for (int64_t i = own.begin; i < own.end; i++)
            r->rank_rows[hb_comm_rank(e->mesh->world)] += counts[l * r->experts + i];
    free(counts);
    return status;
}

hb_status hb_executor_report(struct hb_executor *e)
{
    struct hb_step_results *r = &e->results;
    HB_TRY(gather_values(e, e->microbatches * value_count(r), r->filled, r->values));
    HB_TRY(count_own_rows(e));
    return hb_comm_sum(e->mesh->world, r->counts, r->layers * r->experts + hb_comm_size(e->mesh->world));
}

/* --- life --- */

hb_status hb_executor_init(struct hb_executor *e)
{
    const struct hb_model_config *c = &e->model->config;
    hb_pool_init(&e->pool, e->context, HB_MEMORY_ACTIVATIONS);
    e->results.layers = hb_model_config_moe_layers(c);
    e->results.experts = c->num_experts;
    e->lanes = calloc((size_t)(e->schedule->stages * e->schedule->microbatches), sizeof *e->lanes);
    e->layer_counts = calloc((size_t)c->num_experts + 1, sizeof *e->layer_counts);
    size_t counts = (size_t)(e->results.layers * c->num_experts);
    e->results.counts = calloc(counts + (size_t)hb_comm_size(e->mesh->world), sizeof *e->results.counts);
    e->results.rank_rows = e->results.counts + counts;
    if (!e->lanes || !e->layer_counts || !e->results.counts)
        return HB_FAIL(HB_EMEMORY, "out of memory for the executor of a schedule");
    return HB_OK;
}

void hb_executor_release(struct hb_executor *e)
{
    if (!e->context)
        return;
    hb_transfers_drop(e);
    hb_lanes_release(e);
    free(e->lanes);
    free(e->layer_counts);
    free(e->results.counts);
    free(e->results.values);
    free(e->results.filled);
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
    HB_TRY(keep(e, lane, begin, end));
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
    HB_TRY(results_begin(e, M));
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
    if (status == HB_OK)
        status = results_begin(e, count);
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
        status = gather_values(e, count, filled, sums);
    free(filled);
    return status;
}
