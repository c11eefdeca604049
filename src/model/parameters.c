/* The parameters of a model, in block order: their names, shapes and memory.
 *
 * All ranks agree on names and global numbers; a part of a model has some of
 * the parameters, and of a stack of experts some of the experts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

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
    enum hb_dtype type = hb_class_dtype(model->context, &model->config.precision, HB_CLASS_WEIGHT);
    struct hb_param *p = calloc(1, sizeof *p);
    if (!p)
        return HB_FAIL(HB_EMEMORY, "out of memory for parameter %s", name);
    model->params[model->param_count++] = p;
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->name_after, sizeof p->name_after, "%s", name_after);
    p->groups = groups;
    p->all_groups = groups;
    p->decay = columns > 0;
    p->trained = true;
    p->use_count = 1;
    if (name_after[0])
        p->value = hb_tensor_3d(model->context, NULL, type, groups, rows, columns);
    else if (columns)
        p->value = hb_tensor_2d(model->context, NULL, type, rows, columns);
    else
        p->value = hb_tensor_1d(model->context, NULL, type, rows);
    p->present_parts = name_after[0] ? groups : 0;
    p->shard = (struct hb_range){0, hb_param_count(p)};
    p->unit_chunks = hb_param_chunks(p);
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
    HB_TRY(add_param(model, text, "", 1, rows, columns, out));
    (*out)->block = layer + 1;
    return HB_OK;
}

static hb_status add_stack(struct hb_model *model, int64_t layer, const char *after, int64_t rows,
                           int64_t columns, struct hb_param **out)
{
    char text[HB_PARAM_NAME_MAX];
    snprintf(text, sizeof text, "model.layers.%lld.mlp.experts.", (long long)layer);
    HB_TRY(add_param(model, text, after, model->part.expert_count, rows, columns, out));
    (*out)->block = layer + 1;
    (*out)->first_group = model->part.first_expert;
    (*out)->all_groups = model->config.num_experts;
    return HB_OK;
}

static hb_status add_moe(struct hb_model *model, int64_t layer, struct hb_moe *moe)
{
    const struct hb_model_config *c = &model->config;
    int64_t C = c->hidden_size, E = c->num_experts, F = c->moe_intermediate_size;
    HB_TRY(add(model, layer, "mlp.gate.weight", E, C, &moe->router));
    enum hb_dtype real = hb_real_dtype(model->context); /* of what is added to the router's logits */
    if (c->router_bias) {
        HB_TRY(add(model, layer, "mlp.gate.bias", E, 0, &moe->router_bias));
        moe->router_bias->value.dtype = real;
    }
    if (c->balance == HB_BALANCE_BIAS) {
        HB_TRY(add(model, layer, "mlp.gate.e_score_correction_bias", E, 0, &moe->selection_bias));
        moe->selection_bias->trained = false;
        moe->selection_bias->value.dtype = real;
    }
    HB_TRY(add_stack(model, layer, ".gate_proj.weight", F, C, &moe->gate));
    HB_TRY(add_stack(model, layer, ".up_proj.weight", F, C, &moe->up));
    HB_TRY(add_stack(model, layer, ".down_proj.weight", C, F, &moe->down));
    moe->top_k = c->num_experts_per_tok;
    moe->renormalise = c->norm_topk_prob;
    return HB_OK;
}

/* Slots are keys and values like those of tokens: [M, G D]. */
static hb_status add_memory(struct hb_model *model, int64_t layer, struct hb_attention_layer *attention)
{
    const struct hb_model_config *c = &model->config;
    int64_t KV = c->num_key_value_heads * c->head_dim;
    attention->head_width = c->head_dim;
    attention->scale = (float)(1 / sqrt((double)c->head_dim));
    if (c->sliding_layer[layer]) {
        attention->window = c->sliding_window;
        attention->sinks = c->attention_sinks;
    }
    attention->combine = c->memory_combine;
    if (c->memory_slots == 0)
        return HB_OK;
    HB_TRY(add(model, layer, "self_attn.memory_k", c->memory_slots, KV, &attention->memory_k));
    HB_TRY(add(model, layer, "self_attn.memory_v", c->memory_slots, KV, &attention->memory_v));
    if (c->memory_combine != HB_GATED)
        return HB_OK;
    return add(model, layer, "self_attn.memory_gate", c->num_attention_heads, 0, &attention->memory_gate);
}

static hb_status add_decoder(struct hb_model *model, int64_t layer)
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
    HB_TRY(add_memory(model, layer, &d->attention));
    HB_TRY(add(model, layer, "post_attention_layernorm.weight", C, 0, &d->post_norm));
    if (d->is_moe)
        return add_moe(model, layer, &d->moe);
    int64_t F = c->intermediate_size;
    HB_TRY(add(model, layer, "mlp.gate_proj.weight", F, C, &d->gate));
    HB_TRY(add(model, layer, "mlp.up_proj.weight", F, C, &d->up));
    return add(model, layer, "mlp.down_proj.weight", C, F, &d->down);
}

/* The matrix of the embedding belongs to the first block, also where only a
 * tied head has it. Uses are numbered for the whole model: 0 the embedding, 1
 * the tied head. */
static hb_status add_embedding(struct hb_model *model)
{
    const struct hb_model_config *c = &model->config;
    bool tied = c->tie_word_embeddings, last = hb_model_has_block(model, c->num_hidden_layers + 1);
    if (!hb_model_has_block(model, 0) && !(tied && last))
        return HB_OK;
    HB_TRY(add(model, -1, "model.embed_tokens.weight", c->vocab_size, c->hidden_size, &model->embedding));
    model->embedding->present_parts = c->vocab_size;
    if (tied) {
        model->head = model->embedding;
        model->head_use = 1;
        model->embedding->use_count = 2;
    }
    return HB_OK;
}

hb_status hb_model_add_parameters(struct hb_model *model)
{
    const struct hb_model_config *c = &model->config;
    int64_t L = c->num_hidden_layers, moe_layers = 0;
    HB_TRY(add_embedding(model));
    for (int64_t l = 0; l < L; l++) {
        struct hb_decoder *d = &model->decoders[l];
        d->is_moe = hb_model_config_is_moe(c, l);
        if (d->is_moe)
            d->moe.layer = moe_layers++;
        if (hb_model_has_block(model, l + 1))
            HB_TRY(add_decoder(model, l));
    }
    if (!hb_model_has_block(model, L + 1))
        return HB_OK;
    HB_TRY(add(model, -1, "model.norm.weight", c->hidden_size, 0, &model->final_norm));
    model->final_norm->block = L + 1;
    if (c->tie_word_embeddings)
        return HB_OK;
    HB_TRY(add(model, -1, "lm_head.weight", c->vocab_size, c->hidden_size, &model->head));
    model->head->block = L + 1;
    return HB_OK;
}

/* --- memory --- */

static hb_status allocate(struct hb_context *context, struct hb_tensor *t, enum hb_memory_category category)
{
    return hb_alloc(context, category, hb_tensor_bytes(t), &t->data);
}

/* The shape of the parameter, or of its shard where only that exists. */
static struct hb_tensor shaped(const struct hb_param *p, bool shard, enum hb_dtype dtype)
{
    struct hb_tensor t = p->value;
    t.data = NULL;
    t.dtype = dtype;
    return shard ? hb_tensor_1d(t.home, NULL, t.dtype, p->shard.end - p->shard.begin) : t;
}

/* Only the first use of a parameter can have absent rows or experts: a tied
 * head touches every row. */
static hb_status allocate_param(struct hb_context *context, const struct hb_precision *precision,
                                struct hb_param *p, bool trained)
{
    enum hb_dtype real = hb_real_dtype(context), grad = hb_param_grad_dtype(context, precision);
    struct hb_tensor *value = p->level == 3 ? &p->kept : &p->value;
    *value = shaped(p, p->level == 3, p->value.dtype);
    HB_TRY(allocate(context, value, HB_MEMORY_PARAMETERS));
    if (!trained || !p->trained)
        return HB_OK;
    p->m = p->v = shaped(p, p->level >= 1, real);
    HB_TRY(allocate(context, &p->m, HB_MEMORY_OPTIMIZER));
    HB_TRY(allocate(context, &p->v, HB_MEMORY_OPTIMIZER));
    if (p->value.dtype != real && !precision->no_masters) {
        p->master = shaped(p, p->level >= 1, real);
        HB_TRY(allocate(context, &p->master, HB_MEMORY_OPTIMIZER));
    }
    for (int u = 0; u < p->use_count; u++) {
        p->use[u].root = shaped(p, p->level >= 2, grad);
        HB_TRY(allocate(context, &p->use[u].root, HB_MEMORY_GRADIENTS));
    }
    if (!p->present_parts)
        return HB_OK;
    p->use[0].present = hb_tensor_1d(context, NULL, HB_I32, p->present_parts);
    return allocate(context, &p->use[0].present, HB_MEMORY_GRADIENTS);
}

/* Nothing is touched before all is there: what lies side by side by then can have huge pages. */
hb_status hb_model_allocate_parameters(struct hb_model *model, bool trained)
{
    for (int64_t p = 0; p < model->param_count; p++)
        HB_TRY(allocate_param(model->context, &model->config.precision, model->params[p], trained));
    for (int64_t p = 0; p < model->param_count; p++) {
        const struct hb_param *param = model->params[p];
        if (!param->m.data)
            continue;
        HB_TRY(hb_zero(model->context, param->m));
        HB_TRY(hb_zero(model->context, param->v));
    }
    return HB_OK;
}

static void destroy_param(struct hb_context *context, struct hb_param *p)
{
    hb_free(context, p->level == 3 ? p->kept.data : p->value.data);
    hb_free(context, p->master.data);
    hb_free(context, p->m.data);
    hb_free(context, p->v.data);
    for (int u = 0; u < p->use_count; u++) {
        hb_free(context, p->use[u].root.data);
        hb_free(context, p->use[u].present.data);
    }
    free(p);
}

void hb_model_release_parameters(struct hb_model *model)
{
    for (int64_t p = 0; p < model->param_count; p++)
        destroy_param(model->context, model->params[p]);
    free(model->params);
}
