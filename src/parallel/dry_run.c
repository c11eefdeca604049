#include "parallel/dry_run.h"

#include <stdlib.h>
#include <string.h>

#include "ops/clock.h"
#include "parallel/hollow.h"
#include "parallel/partition.h"

struct dry {
    struct hb_context context;
    struct hb_op_clock clock;
    struct hb_model *model;
    struct hb_tape tape;
    struct hb_gradients gradients;
    struct hb_carry carry;
    int32_t *ids, *segments;
    int64_t begin, end, sequences, length;
};

static double flops_so_far(const struct dry *d)
{
    double sum = 0;
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && d->clock.slots[i].name; i++)
        sum += d->clock.slots[i].flops;
    return sum;
}

static hb_status forward(struct dry *d)
{
    int64_t n = d->sequences * d->length;
    struct hb_batch batch = {
        .tokens = n, .ids = d->ids, .labels = d->ids, .segments = d->segments, .segment_count = d->sequences};
    hb_tape_begin(&d->tape, &d->gradients, 0);
    d->tape.precision = &d->model->config.precision;
    HB_TRY(hb_carry_load(&d->carry, &batch, d->model->cosine, d->model->sine));
    if (d->begin > 0) /* what the stage before would send */
        HB_TRY(hb_var_create(&d->tape, HB_CLASS_BLOCK, 2, (int64_t[]){n, d->model->config.hidden_size},
                             &d->carry.residual));
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
    HB_TRY(hb_var_contribute(&d->tape, y, grad.dtype, buffer));
    hb_var_drop(&d->tape, y);
    d->carry.residual = NULL;
    return HB_OK;
}

static hb_status both_ways(struct dry *d, struct hb_stage_use *use)
{
    double start = flops_so_far(d);
    HB_TRY(forward(d));
    use->forward_flops = flops_so_far(d) - start;
    start = flops_so_far(d);
    HB_TRY(receive_gradient(d));
    HB_TRY(hb_tape_backward_input(&d->tape, 0, d->tape.entry_count, false));
    use->input_flops = flops_so_far(d) - start;
    start = flops_so_far(d);
    HB_TRY(hb_tape_backward_weight(&d->tape, 0, d->tape.entry_count));
    use->weight_flops = flops_so_far(d) - start;
    hb_tape_begin(&d->tape, NULL, 0);
    return HB_OK;
}

static hb_status run(struct dry *d, const struct hb_model_config *config, struct hb_recompute recompute,
                     const struct hb_model_part *part, struct hb_stage_use *use)
{
    int64_t n = d->sequences * d->length;
    HB_TRY(hb_model_outline(&d->context, config, part, &d->model));
    HB_TRY(hb_model_allocate(d->model, d->length, true));
    d->model->recompute = recompute;
    HB_TRY(hb_carry_init(&d->carry, &d->context, config, n));
    d->ids = calloc((size_t)n, sizeof *d->ids);
    d->segments = calloc((size_t)d->sequences + 1, sizeof *d->segments);
    if (!d->ids || !d->segments)
        return HB_FAIL(HB_EMEMORY, "out of memory for the tokens of a dry run");
    for (int64_t s = 0; s <= d->sequences; s++)
        d->segments[s] = (int32_t)(s * d->length);
    d->context.clock = &d->clock;
    hb_gradients_begin(&d->gradients, 1, d->model->params, d->model->param_count);
    return both_ways(d, use);
}

hb_status hb_dry_run(const struct hb_model_config *config, struct hb_recompute recompute,
                     struct hb_model_part part, int64_t begin, int64_t end, int64_t sequences, int64_t length,
                     struct hb_stage_use *use)
{
    struct dry d = {.begin = begin, .end = end, .sequences = sequences, .length = length};
    bool *blocks = calloc((size_t)config->num_hidden_layers + 2, sizeof *blocks);
    if (!blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for a dry run");
    for (int64_t b = begin; b < end; b++)
        blocks[b] = true;
    part.blocks = blocks;
    *use = (struct hb_stage_use){0};
    hb_status status = hb_context_open(&hb_hollow_backend, HB_CANONICAL, 1, &d.context);
    if (status == HB_OK) {
        hb_tape_init(&d.tape, &d.context);
        hb_gradients_init(&d.gradients, &d.context);
        status = run(&d, config, recompute, &part, use);
        hb_tape_release(&d.tape);
        if (d.model)
            hb_gradients_begin(&d.gradients, 0, d.model->params, d.model->param_count);
        hb_gradients_release(&d.gradients);
        hb_carry_release(&d.carry);
        hb_model_destroy(d.model);
        hb_context_close(&d.context);
    }
    free(d.ids);
    free(d.segments);
    free(blocks);
    return status;
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
