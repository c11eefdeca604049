#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/math64.h"

/* --- parameters --- */

/* Matrices decay by default, vectors (norms, biases) do not. */
static hb_status add_param(struct hb_model *model, const char *name, const char *name_after, int64_t groups,
                           int64_t rows, int64_t columns, struct hb_param **out)
{
    if (model->param_count == model->param_capacity) {
        int64_t capacity = model->param_capacity ? 2 * model->param_capacity : 64;
        struct hb_param **grown = realloc(model->params, (size_t)capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for the list of parameters");
        model->params = grown;
        model->param_capacity = capacity;
    }
    enum hb_dtype real = hb_real_dtype(model->context);
    struct hb_param *p = calloc(1, sizeof *p);
    if (!p)
        return HB_FAIL(HB_EMEMORY, "out of memory for parameter %s", name);
    model->params[model->param_count++] = p;
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->name_after, sizeof p->name_after, "%s", name_after);
    p->groups = groups;
    p->decay = columns > 0;
    p->trained = true;
    p->use_count = 1;
    if (name_after[0])
        p->value = hb_tensor_3d(model->context, NULL, real, groups, rows, columns);
    else if (columns)
        p->value = hb_tensor_2d(model->context, NULL, real, rows, columns);
    else
        p->value = hb_tensor_1d(model->context, NULL, real, rows);
    p->present_parts = name_after[0] ? groups : 0;
    *out = p;
    return HB_OK;
}

static hb_status add(struct hb_model *model, int64_t layer, const char *name, int64_t rows, int64_t columns,
                     struct hb_param **out)
{
    char text[HB_PARAM_NAME_MAX];
    if (layer >= 0)
        snprintf(text, sizeof text, "model.layers.%lld.%s", (long long)layer, name);
    else
        snprintf(text, sizeof text, "%s", name);
    return add_param(model, text, "", 1, rows, columns, out);
}

static hb_status add_stack(struct hb_model *model, int64_t layer, const char *after, int64_t rows, int64_t columns,
                           struct hb_param **out)
{
    char text[HB_PARAM_NAME_MAX];
    snprintf(text, sizeof text, "model.layers.%lld.mlp.experts.", (long long)layer);
    return add_param(model, text, after, model->config.num_experts, rows, columns, out);
}

static hb_status add_moe(struct hb_model *model, int64_t layer, struct hb_moe *moe)
{
    const struct hb_model_config *c = &model->config;
    int64_t C = c->hidden_size, E = c->num_experts, F = c->moe_intermediate_size;
    HB_TRY(add(model, layer, "mlp.gate.weight", E, C, &moe->router));
    if (c->router_bias)
        HB_TRY(add(model, layer, "mlp.gate.bias", E, 0, &moe->router_bias));
    if (c->balance == HB_BALANCE_BIAS) {
        HB_TRY(add(model, layer, "mlp.gate.e_score_correction_bias", E, 0, &moe->selection_bias));
        moe->selection_bias->trained = false;
    }
    HB_TRY(add_stack(model, layer, ".gate_proj.weight", F, C, &moe->gate));
    HB_TRY(add_stack(model, layer, ".up_proj.weight", F, C, &moe->up));
    HB_TRY(add_stack(model, layer, ".down_proj.weight", C, F, &moe->down));
    moe->top_k = c->num_experts_per_tok;
    moe->renormalise = c->norm_topk_prob;
    return HB_OK;
}

static hb_status add_decoder(struct hb_model *model, int64_t layer, int64_t *moe_layers)
{
    const struct hb_model_config *c = &model->config;
    struct hb_decoder *d = &model->decoders[layer];
    int64_t C = c->hidden_size, D = c->head_dim;
    int64_t Q = c->num_attention_heads * D, KV = c->num_key_value_heads * D;
    HB_TRY(add(model, layer, "input_layernorm.weight", C, 0, &d->input_norm));
    HB_TRY(add(model, layer, "self_attn.q_proj.weight", Q, C, &d->q));
    HB_TRY(add(model, layer, "self_attn.k_proj.weight", KV, C, &d->k));
    HB_TRY(add(model, layer, "self_attn.v_proj.weight", KV, C, &d->v));
    HB_TRY(add(model, layer, "self_attn.o_proj.weight", C, Q, &d->o));
    HB_TRY(add(model, layer, "self_attn.q_norm.weight", D, 0, &d->q_norm));
    HB_TRY(add(model, layer, "self_attn.k_norm.weight", D, 0, &d->k_norm));
    HB_TRY(add(model, layer, "post_attention_layernorm.weight", C, 0, &d->post_norm));
    d->is_moe = hb_model_config_is_moe(c, layer);
    if (d->is_moe) {
        d->moe.layer = (*moe_layers)++;
        return add_moe(model, layer, &d->moe);
    }
    int64_t F = c->intermediate_size;
    HB_TRY(add(model, layer, "mlp.gate_proj.weight", F, C, &d->gate));
    HB_TRY(add(model, layer, "mlp.up_proj.weight", F, C, &d->up));
    return add(model, layer, "mlp.down_proj.weight", C, F, &d->down);
}

static hb_status add_all(struct hb_model *model)
{
    const struct hb_model_config *c = &model->config;
    int64_t moe_layers = 0;
    HB_TRY(add(model, -1, "model.embed_tokens.weight", c->vocab_size, c->hidden_size, &model->embedding));
    model->embedding->present_parts = c->vocab_size;
    for (int64_t l = 0; l < c->num_hidden_layers; l++)
        HB_TRY(add_decoder(model, l, &moe_layers));
    HB_TRY(add(model, -1, "model.norm.weight", c->hidden_size, 0, &model->final_norm));
    model->head = model->embedding;
    if (c->tie_word_embeddings) {
        model->head_use = 1;
        model->embedding->use_count = 2;
        return HB_OK;
    }
    return add(model, -1, "lm_head.weight", c->vocab_size, c->hidden_size, &model->head);
}

static hb_status allocate(struct hb_context *context, struct hb_tensor *t, enum hb_memory_category category)
{
    return hb_alloc(context, category, hb_tensor_bytes(t), &t->data);
}

/* Only the first use of a parameter can have absent rows or experts: a tied
 * head touches every row. */
static hb_status allocate_param(struct hb_context *context, struct hb_param *p, bool trained)
{
    HB_TRY(allocate(context, &p->value, HB_MEMORY_PARAMETERS));
    if (!trained || !p->trained)
        return HB_OK;
    p->m = p->v = p->value;
    p->m.data = p->v.data = NULL;
    HB_TRY(allocate(context, &p->m, HB_MEMORY_OPTIMIZER));
    HB_TRY(allocate(context, &p->v, HB_MEMORY_OPTIMIZER));
    HB_TRY(hb_zero(context, p->m));
    HB_TRY(hb_zero(context, p->v));
    for (int u = 0; u < p->use_count; u++) {
        p->use[u].root = p->value;
        p->use[u].root.data = NULL;
        HB_TRY(allocate(context, &p->use[u].root, HB_MEMORY_GRADIENTS));
    }
    if (!p->present_parts)
        return HB_OK;
    p->use[0].present = hb_tensor_1d(context, NULL, HB_I32, p->present_parts);
    return allocate(context, &p->use[0].present, HB_MEMORY_GRADIENTS);
}

static void destroy_param(struct hb_context *context, struct hb_param *p)
{
    hb_free(context, p->value.data);
    hb_free(context, p->m.data);
    hb_free(context, p->v.data);
    for (int u = 0; u < p->use_count; u++) {
        hb_free(context, p->use[u].root.data);
        hb_free(context, p->use[u].present.data);
    }
    free(p);
}

/* --- rotary tables (numerics.md rule 6) --- */

static hb_status make_rope(struct hb_model *model, int64_t P)
{
    int64_t half = model->config.head_dim / 2;
    model->cosine = hb_tensor_2d(model->context, NULL, hb_real_dtype(model->context), P, half);
    model->sine = model->cosine;
    HB_TRY(allocate(model->context, &model->cosine, HB_MEMORY_PARAMETERS));
    HB_TRY(allocate(model->context, &model->sine, HB_MEMORY_PARAMETERS));
    float *cosine = malloc((size_t)(P * half) * sizeof *cosine), *sine = malloc((size_t)(P * half) * sizeof *sine);
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

static hb_status build(struct hb_model *model, int64_t positions, bool trained)
{
    int64_t L = model->config.num_hidden_layers;
    model->decoders = calloc((size_t)L, sizeof *model->decoders);
    model->blocks = calloc((size_t)L + 2, sizeof *model->blocks);
    if (!model->decoders || !model->blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for the list of blocks");
    HB_TRY(add_all(model));
    for (int64_t p = 0; p < model->param_count; p++)
        HB_TRY(allocate_param(model->context, model->params[p], trained));
    HB_TRY(make_rope(model, positions));
    struct hb_block *block = model->blocks;
    *block++ = (struct hb_block){.name = "embedding", .forward = hb_embedding_block};
    for (int64_t l = 0; l < L; l++)
        *block++ = (struct hb_block){.name = "decoder", .layer = l, .forward = hb_decoder_block};
    *block++ = (struct hb_block){.name = "head", .forward = hb_head_block};
    model->block_count = block - model->blocks;
    return HB_OK;
}

hb_status hb_model_create(struct hb_context *context, const struct hb_model_config *config, int64_t positions,
                          bool trained, struct hb_model **out)
{
    const char *bad_key;
    HB_TRY(hb_model_config_check(config, &bad_key));
    struct hb_model *model = calloc(1, sizeof *model);
    if (!model)
        return HB_FAIL(HB_EMEMORY, "out of memory for a model");
    model->context = context;
    model->config = *config;
    hb_status status = build(model, positions, trained);
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
    for (int64_t p = 0; p < model->param_count; p++)
        destroy_param(model->context, model->params[p]);
    hb_free(model->context, model->cosine.data);
    hb_free(model->context, model->sine.data);
    free(model->params);
    free(model->decoders);
    free(model->blocks);
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

hb_status hb_model_forward(const struct hb_model *model, struct hb_tape *tape, struct hb_carry *carry)
{
    hb_status status = HB_OK;
    for (int64_t b = 0; b < model->block_count && status == HB_OK; b++) {
        const struct hb_block *block = &model->blocks[b];
        tape->place = (struct hb_trace_place){block->name, block->forward == hb_decoder_block ? block->layer : -1};
        hb_trace_at(model->context, tape->place, "forward");
        status = block->forward(model, block, tape, carry);
        if (status != HB_OK)
            status = hb_fail_in(status, "%s %lld", block->name, (long long)block->layer);
    }
    hb_var_drop(tape, carry->residual); /* only after a failure is there one */
    carry->residual = NULL;
    return status;
}

hb_status hb_model_backward(const struct hb_model *model, struct hb_tape *tape)
{
    (void)model;
    return hb_tape_backward_input(tape, 0, tape->entry_count, true);
}
