#include "parallel/dry_run.h"

#include <stdlib.h>
#include <string.h>

#include "ops/clock.h"
#include "parallel/hollow.h"
#include "parallel/partition.h"

struct dry {
    struct hb_context *context;
    struct hb_op_clock clock;
    bool timed; /* seconds instead of FLOPs */
    struct hb_model *model;
    struct hb_tape tape;
    struct hb_gradients gradients;
    struct hb_carry carry;
    int32_t *ids, *segments;
    float *values; /* [n, C] what other stages would send; NULL: counted only */
    int64_t begin, end, sequences, length;
};

/* F, I, W: FLOPs or seconds. */
struct costs {
    double of[3];
};

static hb_status so_far(struct dry *d, double *out)
{
    *out = 0;
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && d->clock.slots[i].name; i++)
        *out += d->clock.slots[i].flops;
    if (!d->timed)
        return HB_OK;
    HB_TRY(hb_sync(d->context));
    *out = hb_clock_now();
    return HB_OK;
}

/* Numbers of an ordinary size, so that nothing is slow for being tiny or not finite. */
static hb_status fill(struct dry *d, struct hb_tensor t)
{
    return d->values ? hb_copy_in_f32(d->context, t, d->values) : HB_OK;
}

static hb_status forward(struct dry *d)
{
    int64_t n = d->sequences * d->length;
    struct hb_batch batch = {
        .tokens = n, .ids = d->ids, .labels = d->ids, .segments = d->segments, .segment_count = d->sequences};
    hb_tape_begin(&d->tape, &d->gradients, 0);
    d->tape.precision = &d->model->config.precision;
    HB_TRY(hb_carry_load(&d->carry, &batch, d->model->cosine, d->model->sine));
    if (d->begin > 0) { /* what the stage before would send */
        HB_TRY(hb_var_create(&d->tape, HB_CLASS_BLOCK, 2, (int64_t[]){n, d->model->config.hidden_size},
                             &d->carry.residual));
        HB_TRY(fill(d, d->carry.residual->value));
    }
    return hb_model_forward_blocks(d->model, &d->tape, &d->carry, d->begin, d->end);
}

/* The gradient that the stage behind would send. */
static hb_status receive_gradient(struct dry *d)
{
    struct hb_var *y = d->carry.residual;
    struct hb_buffer *buffer;
    struct hb_tensor grad;
    if (!y)
        return HB_OK; /* the head has made its own */
    HB_TRY(hb_var_grad_buffer(&d->tape, y, &buffer, &grad));
    HB_TRY(fill(d, grad));
    HB_TRY(hb_var_contribute(&d->tape, y, grad.dtype, buffer));
    hb_var_drop(&d->tape, y);
    d->carry.residual = NULL;
    return HB_OK;
}

static hb_status both_ways(struct dry *d, struct costs *costs)
{
    double start, end[3];
    hb_gradients_begin(&d->gradients, 1, d->model->params, d->model->param_count);
    HB_TRY(so_far(d, &start));
    HB_TRY(forward(d));
    HB_TRY(so_far(d, &end[0]));
    HB_TRY(receive_gradient(d));
    HB_TRY(hb_tape_backward_input(&d->tape, 0, d->tape.entry_count, false));
    HB_TRY(so_far(d, &end[1]));
    HB_TRY(hb_tape_backward_weight(&d->tape, 0, d->tape.entry_count));
    HB_TRY(so_far(d, &end[2]));
    hb_tape_begin(&d->tape, NULL, 0);
    *costs = (struct costs){{end[0] - start, end[1] - end[0], end[2] - end[1]}};
    return HB_OK;
}

static hb_status prepare(struct dry *d, const struct hb_model_config *config, struct hb_recompute recompute,
                         const struct hb_model_part *part)
{
    int64_t n = d->sequences * d->length, C = config->hidden_size;
    HB_TRY(hb_model_outline(d->context, config, part, &d->model));
    HB_TRY(hb_model_allocate(d->model, d->length, true));
    d->model->recompute = recompute;
    HB_TRY(hb_carry_init(&d->carry, d->context, config, n));
    d->ids = calloc((size_t)n, sizeof *d->ids);
    d->segments = calloc((size_t)d->sequences + 1, sizeof *d->segments);
    d->values = d->timed ? malloc((size_t)(n * C) * sizeof *d->values) : NULL;
    if (!d->ids || !d->segments || (d->timed && !d->values))
        return HB_FAIL(HB_EMEMORY, "out of memory for the tokens of a dry run");
    for (int64_t s = 0; s <= d->sequences; s++)
        d->segments[s] = (int32_t)(s * d->length);
    if (!d->timed)
        return HB_OK;
    for (int64_t i = 0; i < n; i++)
        d->ids[i] = (int32_t)(i * 7919 % config->vocab_size);
    for (int64_t i = 0; i < n * C; i++) /* from -1 to 1, no two rows alike */
        d->values[i] = (float)((i * 7919 % 2001) - 1000) / 1000;
    return hb_model_initialise(d->model, 1);
}

/* The fastest of some rounds; counts are the same in each. */
static hb_status run(struct dry *d, struct costs *best)
{
    enum { ROUNDS = 6 };
    for (int round = 0; round < (d->timed ? ROUNDS : 1); round++) {
        struct costs made;
        HB_TRY(both_ways(d, &made));
        for (int i = 0; i < 3; i++)
            if (round == 0 || made.of[i] < best->of[i])
                best->of[i] = made.of[i];
    }
    return HB_OK;
}

static hb_status run_blocks(struct dry *d, const struct hb_model_config *config,
                            struct hb_recompute recompute, struct hb_model_part part, struct costs *costs)
{
    bool *blocks = calloc((size_t)config->num_hidden_layers + 2, sizeof *blocks);
    if (!blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for a dry run");
    for (int64_t b = d->begin; b < d->end; b++)
        blocks[b] = true;
    part.blocks = blocks;
    hb_tape_init(&d->tape, d->context);
    hb_gradients_init(&d->gradients, d->context);
    d->context->clock = &d->clock;
    hb_status status = prepare(d, config, recompute, &part);
    if (status == HB_OK)
        status = run(d, costs);
    d->context->clock = NULL;
    hb_tape_release(&d->tape);
    if (d->model)
        hb_gradients_begin(&d->gradients, 0, d->model->params, d->model->param_count);
    hb_gradients_release(&d->gradients);
    hb_carry_release(&d->carry);
    hb_model_destroy(d->model);
    free(d->ids);
    free(d->segments);
    free(d->values);
    free(blocks);
    return status;
}

hb_status hb_dry_run(const struct hb_model_config *config, struct hb_recompute recompute,
                     struct hb_model_part part, int64_t begin, int64_t end, int64_t sequences, int64_t length,
                     struct hb_stage_use *use)
{
    struct hb_context context;
    struct dry d = {
        .context = &context, .begin = begin, .end = end, .sequences = sequences, .length = length};
    struct costs flops = {{0}};
    HB_TRY(hb_context_open(&hb_hollow_backend, HB_CANONICAL, 1, &context));
    hb_status status = run_blocks(&d, config, recompute, part, &flops);
    hb_context_close(&context);
    *use = (struct hb_stage_use){flops.of[0], flops.of[1], flops.of[2]};
    return status;
}

hb_status hb_timed_run(struct hb_context *context, const struct hb_model_config *config,
                       struct hb_recompute recompute, int64_t begin, int64_t end, int64_t sequences,
                       int64_t length, struct hb_stage_cost *seconds)
{
    struct dry d = {.context = context,
                    .timed = true,
                    .begin = begin,
                    .end = end,
                    .sequences = sequences,
                    .length = length};
    struct costs made = {{0}};
    struct hb_model_part all = {.expert_count = config->num_experts};
    HB_TRY(run_blocks(&d, config, recompute, all, &made));
    *seconds = (struct hb_stage_cost){made.of[0], made.of[1], made.of[2], 0};
    return HB_OK;
}

hb_status hb_cut_stages(const struct hb_model_config *config, struct hb_recompute recompute,
                        int64_t sequences, int64_t length, int stages, int64_t *begin)
{
    int64_t blocks = config->num_hidden_layers + 2;
    struct hb_model_part all = {.expert_count = config->num_experts};
    double *cost = malloc((size_t)blocks * sizeof *cost);
    if (!cost)
        return HB_FAIL(HB_EMEMORY, "out of memory for the costs of blocks");
    hb_status status = HB_OK;
    for (int64_t b = 0; b < blocks && stages > 1 && status == HB_OK; b++) {
        struct hb_stage_use use;
        status = hb_dry_run(config, recompute, all, b, b + 1, sequences, length, &use);
        cost[b] = use.forward_flops + use.input_flops + use.weight_flops;
    }
    if (stages == 1) {
        begin[0] = 0;
        begin[1] = blocks;
    } else if (status == HB_OK) {
        status = hb_partition(cost, blocks, stages, begin);
    }
    free(cost);
    return status;
}
