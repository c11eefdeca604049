#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "core/math64.h"
#include "tape/recompute.h"

/* --- rotary tables (numerics.md rule 6) --- */

static hb_status allocate(struct hb_context *context, struct hb_tensor *t)
{
    return hb_alloc(context, HB_MEMORY_PARAMETERS, hb_tensor_bytes(t), &t->data);
}

static hb_status make_rope(struct hb_model *model, int64_t P)
{
    int64_t half = model->config.head_dim / 2;
    model->cosine = hb_tensor_2d(model->context, NULL, hb_real_dtype(model->context), P, half);
    model->sine = model->cosine;
    HB_TRY(allocate(model->context, &model->cosine));
    HB_TRY(allocate(model->context, &model->sine));
    float *cosine = malloc((size_t)(P * half) * sizeof *cosine),
          *sine = malloc((size_t)(P * half) * sizeof *sine);
    hb_status status = HB_OK;
    if (!cosine || !sine)
        status = HB_FAIL(HB_EMEMORY, "out of memory for rotary tables of %lld positions", (long long)P);
    for (int64_t i = 0; i < half && status == HB_OK; i++) {
        double exponent = (double)(2 * i) / (double)model->config.head_dim;
        float frequency = (float)(1 / hb_pow64(model->config.rope_theta, exponent));
        for (int64_t p = 0; p < P; p++) {
            float angle = (float)p * frequency;
            cosine[p * half + i] = (float)hb_cos64((double)angle);
            sine[p * half + i] = (float)hb_sin64((double)angle);
        }
    }
    if (status == HB_OK)
        status = hb_copy_in_f32(model->context, model->cosine, cosine);
    if (status == HB_OK)
        status = hb_copy_in_f32(model->context, model->sine, sine);
    free(cosine);
    free(sine);
    return status;
}

/* --- the model --- */

bool hb_model_has_block(const struct hb_model *model, int64_t block)
{
    return !model->part.blocks || model->part.blocks[block];
}

static hb_status outline(struct hb_model *model, const struct hb_model_part *part)
{
    int64_t L = model->config.num_hidden_layers;
    model->decoders = calloc((size_t)L, sizeof *model->decoders);
    model->blocks = calloc((size_t)L + 2, sizeof *model->blocks);
    if (!model->decoders || !model->blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for the list of blocks");
    model->part = part ? *part : (struct hb_model_part){.expert_count = model->config.num_experts};
    if (part && part->blocks) {
        model->own_blocks = malloc((size_t)(L + 2) * sizeof *model->own_blocks);
        if (!model->own_blocks)
            return HB_FAIL(HB_EMEMORY, "out of memory for the list of blocks");
        memcpy(model->own_blocks, part->blocks, (size_t)(L + 2) * sizeof *model->own_blocks);
        model->part.blocks = model->own_blocks;
    }
    struct hb_block *block = model->blocks;
    *block++ = (struct hb_block){.name = "embedding", .forward = hb_embedding_block};
    for (int64_t l = 0; l < L; l++)
        *block++ = (struct hb_block){.name = "decoder", .layer = l, .forward = hb_decoder_block};
    *block++ = (struct hb_block){.name = "head", .forward = hb_head_block};
    model->block_count = block - model->blocks;
    return hb_model_add_parameters(model);
}

hb_status hb_model_outline(struct hb_context *context, const struct hb_model_config *config,
                           const struct hb_model_part *part, struct hb_model **out)
{
    const char *bad_key;
    HB_TRY(hb_model_config_check(config, &bad_key));
    struct hb_model *model = calloc(1, sizeof *model);
    if (!model)
        return HB_FAIL(HB_EMEMORY, "out of memory for a model");
    model->context = context;
    model->config = *config;
    hb_status status = outline(model, part);
    if (status != HB_OK) {
        hb_model_destroy(model);
        return status;
    }
    *out = model;
    return HB_OK;
}

hb_status hb_model_allocate(struct hb_model *model, int64_t positions, bool trained)
{
    HB_TRY(hb_model_allocate_parameters(model, trained));
    return make_rope(model, positions);
}

hb_status hb_model_create(struct hb_context *context, const struct hb_model_config *config, int64_t positions,
                          bool trained, struct hb_model **out)
{
    struct hb_model *model;
    HB_TRY(hb_model_outline(context, config, NULL, &model));
    hb_status status = hb_model_allocate(model, positions, trained);
    if (status != HB_OK) {
        hb_model_destroy(model);
        return status;
    }
    *out = model;
    return HB_OK;
}

void hb_model_destroy(struct hb_model *model)
{
    if (!model)
        return;
    hb_model_release_parameters(model);
    hb_free(model->context, model->cosine.data);
    hb_free(model->context, model->sine.data);
    free(model->decoders);
    free(model->blocks);
    free(model->own_blocks);
    free(model);
}

int64_t hb_model_parameter_count(const struct hb_model *model)
{
    int64_t count = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        if (model->params[p]->trained)
            count += hb_tensor_count(&model->params[p]->value);
    return count;
}

int64_t hb_model_active_parameter_count(const struct hb_model *model)
{
    int64_t count = 0;
    for (int64_t p = 0; p < model->param_count; p++) {
        const struct hb_param *param = model->params[p];
        int64_t all = hb_tensor_count(&param->value);
        if (param->trained)
            count += param->name_after[0] ? all / param->groups * model->config.num_experts_per_tok : all;
    }
    return count;
}

/* A decoder as a piece of the tape: the residual stream in and out, the rest of
 * the carry as it stands. */
static hb_status run_piece(const struct hb_piece *piece, struct hb_tape *tape, struct hb_var *x,
                           struct hb_var **y)
{
    const struct hb_block *block = piece->block;
    struct hb_carry *carry = piece->carry;
    carry->residual = hb_var_share(x);
    hb_status status = block->forward(piece->model, block, tape, carry);
    if (status == HB_OK)
        *y = carry->residual;
    else
        hb_var_drop(tape, carry->residual);
    carry->residual = NULL;
    return status;
}

/* Under the model's recompute policy. */
static hb_status run_policy(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                           struct hb_carry *carry)
{
    const struct hb_recompute *policy = &model->recompute;
    bool decoder = block->forward == hb_decoder_block;
    bool again = policy->kind == HB_RECOMPUTE_FULL ||
                 (policy->kind == HB_RECOMPUTE_EVERY && block->layer % policy->every == 0);
    tape->place = (struct hb_trace_place){block->name, decoder ? block->layer : -1};
    tape->precision = &model->config.precision;
    tape->forgetful = policy->kind == HB_RECOMPUTE_SELECTIVE;
    hb_trace_at(model->context, tape->place, "forward");
    if (!decoder || !again)
        return block->forward(model, block, tape, carry);
    struct hb_piece piece = {.forward = run_piece, .model = model, .block = block, .carry = carry};
    struct hb_var *x = carry->residual, *y;
    hb_status status = hb_tape_segment(tape, &piece, x, &y);
    carry->residual = status == HB_OK ? y : NULL;
    hb_var_drop(tape, x);
    return status;
}

/* One block. What passes between blocks is there in every layout and under every policy, and all gradients
 * go through it: that of the residual stream is watched. */
static hb_status run_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                           struct hb_carry *carry)
{
    HB_TRY(run_policy(model, block, tape, carry));
    if (carry->residual)
        carry->residual->watched = true;
    return HB_OK;
}

hb_status hb_model_forward_blocks(const struct hb_model *model, struct hb_tape *tape, struct hb_carry *carry,
                                  int64_t begin, int64_t end)
{
    for (int64_t b = begin; b < end; b++) {
        const struct hb_block *block = &model->blocks[b];
        hb_status status = run_block(model, block, tape, carry);
        if (status != HB_OK) {
            hb_var_drop(tape, carry->residual);
            carry->residual = NULL;
            return hb_fail_in(status, "%s %lld", block->name, (long long)block->layer);
        }
    }
    return HB_OK;
}

hb_status hb_model_forward(const struct hb_model *model, struct hb_tape *tape, struct hb_carry *carry)
{
    return hb_model_forward_blocks(model, tape, carry, 0, model->block_count);
}

hb_status hb_model_backward(const struct hb_model *model, struct hb_tape *tape)
{
    (void)model;
    return hb_tape_backward_input(tape, 0, tape->entry_count, true);
}
