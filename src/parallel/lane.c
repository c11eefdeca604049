#include "parallel/lane.h"

#include <stdlib.h>

static int64_t place_of(const struct hb_executor *e, int stage, int64_t round)
{
    return stage * e->schedule->microbatches + round;
}

struct hb_lane *hb_lane_find(const struct hb_executor *e, int stage, int64_t round)
{
    return e->lanes[place_of(e, stage, round)];
}

/* Between ops: messages of all groups move on. */
static void look_at_messages(const void *mesh)
{
    hb_comm_progress(((const struct hb_mesh *)mesh)->world);
}

static hb_status create(struct hb_executor *e, struct hb_lane **out)
{
    struct hb_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return HB_FAIL(HB_EMEMORY, "out of memory for a microbatch in flight");
    lane->entries = calloc((size_t)e->model->block_count + 1, sizeof *lane->entries);
    hb_status status = lane->entries ? HB_OK
                                     : HB_FAIL(HB_EMEMORY, "out of memory for a microbatch in flight");
    if (status == HB_OK)
        status = hb_carry_init(&lane->carry, e->context, &e->model->config, e->tokens);
    if (status != HB_OK) {
        free(lane->entries);
        free(lane);
        return status;
    }
    hb_tape_init(&lane->tape, e->context);
    hb_pool_init_shared(&lane->tape.pool, &e->pool);
    lane->tape.exchange = e->exchange;
    lane->tape.between = look_at_messages;
    lane->tape.between_whom = e->mesh;
    lane->tape.precision = &e->model->config.precision;
    *out = lane;
    return HB_OK;
}

hb_status hb_lane_open(struct hb_executor *e, int stage, int64_t round, int64_t microbatch,
                       const struct hb_batch *batch, struct hb_gradients *gradients, struct hb_lane **out)
{
    struct hb_lane *lane = e->idle;
    if (lane)
        e->idle = lane->next;
    else
        HB_TRY(create(e, &lane));
    lane->stage = stage;
    lane->round = round;
    lane->microbatch = microbatch;
    lane->weights_done = !gradients;
    e->lanes[place_of(e, stage, round)] = lane;
    hb_tape_begin(&lane->tape, gradients, microbatch);
    lane->tape.extremes = e->extremes;
    lane->carry.loss_factor = e->factors.loss;
    lane->carry.balance.aux_factor = e->factors.aux;
    lane->carry.balance.z_factor = e->factors.z;
    static const int32_t no_segments[1] = {0};
    const struct hb_batch nothing = {.segments = no_segments};
    *out = lane;
    return hb_carry_load(&lane->carry, microbatch < 0 ? &nothing : batch, e->model->cosine, e->model->sine);
}

void hb_lane_close(struct hb_executor *e, struct hb_lane *lane)
{
    if (!lane->weights_done || lane->input || lane->output)
        return;
    hb_tape_begin(&lane->tape, NULL, 0);
    e->lanes[place_of(e, lane->stage, lane->round)] = NULL;
    lane->next = e->idle;
    e->idle = lane;
}

static void destroy(struct hb_lane *lane)
{
    hb_var_drop(&lane->tape, lane->input);
    hb_var_drop(&lane->tape, lane->output);
    hb_var_drop(&lane->tape, lane->carry.residual);
    hb_tape_release(&lane->tape);
    hb_carry_release(&lane->carry);
    free(lane->entries);
    free(lane);
}

void hb_lanes_release(struct hb_executor *e)
{
    for (int64_t i = 0; e->lanes && i < e->schedule->stages * e->schedule->microbatches; i++)
        if (e->lanes[i]) {
            destroy(e->lanes[i]);
            e->lanes[i] = NULL;
        }
    while (e->idle) {
        struct hb_lane *next = e->idle->next;
        destroy(e->idle);
        e->idle = next;
    }
}
