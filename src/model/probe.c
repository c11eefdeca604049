/* Two passes over one microbatch: one for the logits and what lies on the way
 * to them, one for the losses and their gradient, exactly as training runs it.
 * They compute the same bits (numerics.md: an op's result does not depend on
 * who asks). */
#include "model/probe.h"

#include <stdlib.h>

struct pass {
    struct hb_probe *probe;
    struct hb_context *context;
    struct hb_tape tape;
    struct hb_gradients gradients;
    struct hb_carry carry;
    struct hb_batch batch;
    int32_t *segments; /* owned */
};

static hb_status allocate(struct hb_context *context, struct hb_tensor *t)
{
    return hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(t), &t->data);
}

static struct hb_tensor slice(struct hb_tensor t, int64_t i)
{
    struct hb_tensor s = hb_tensor_rows(t, i, 1);
    return hb_tensor_2d(s.home, s.data, s.dtype, t.shape[1], t.shape[2]);
}

static hb_status allocate_results(struct hb_probe *probe)
{
    struct hb_context *context = probe->model->context;
    const struct hb_model_config *c = &probe->model->config;
    enum hb_dtype real = hb_real_dtype(context);
    int64_t n = probe->sequences * probe->length, moe = hb_model_config_moe_layers(c);
    probe->logits = hb_tensor_2d(context, NULL, real, n, c->vocab_size);
    HB_TRY(allocate(context, &probe->logits));
    if (probe->want_hidden) {
        probe->hidden = hb_tensor_3d(context, NULL, real, c->num_hidden_layers + 1, n, c->hidden_size);
        HB_TRY(allocate(context, &probe->hidden));
    }
    if (probe->want_router && moe) {
        probe->router_index = hb_tensor_3d(context, NULL, HB_I32, moe, n, c->num_experts_per_tok);
        probe->router_weight = hb_tensor_3d(context, NULL, real, moe, n, c->num_experts_per_tok);
        HB_TRY(allocate(context, &probe->router_index));
        HB_TRY(allocate(context, &probe->router_weight));
    }
    return HB_OK;
}

/* What the head will make of the last decoder's output. */
static hb_status final_norm(struct pass *pass, struct hb_tensor out)
{
    const struct hb_model *model = pass->probe->model;
    struct hb_tensor x = pass->carry.residual->value;
    struct hb_buffer *buffer;
    struct hb_tensor rstd;
    HB_TRY(hb_tape_scratch(&pass->tape, hb_real_dtype(pass->context), 1, x.shape, &buffer, &rstd));
    hb_status status = hb_rmsnorm_forward(
        pass->context, &(struct hb_rmsnorm_forward_args){.x = x,
                                                         .weight = model->final_norm->value,
                                                         .y = out,
                                                         .rstd = rstd,
                                                         .eps = (float)model->config.rms_norm_eps});
    hb_pool_drop(&pass->tape.pool, buffer);
    return status;
}

/* After block b: blocks 0 .. L leave hidden states, the head does not. */
static hb_status keep_hidden(struct pass *pass, int64_t b)
{
    int64_t L = pass->probe->model->config.num_hidden_layers;
    if (!pass->probe->hidden.data || b > L)
        return HB_OK;
    struct hb_tensor out = slice(pass->probe->hidden, b);
    if (b == L)
        return final_norm(pass, out);
    struct hb_cast_args widen = {.x = pass->carry.residual->value, .out = out};
    return hb_cast(pass->context, &widen);
}

static hb_status logits_pass(struct pass *pass)
{
    const struct hb_model *model = pass->probe->model;
    hb_tape_begin(&pass->tape, NULL, 0);
    pass->tape.precision = &model->config.precision;
    HB_TRY(hb_carry_load(&pass->carry, &pass->batch, model->cosine, model->sine));
    pass->carry.logits = pass->probe->logits;
    hb_status status = HB_OK;
    for (int64_t b = 0; b < model->block_count && status == HB_OK; b++) {
        const struct hb_block *block = &model->blocks[b];
        status = block->forward(model, block, &pass->tape, &pass->carry);
        if (status == HB_OK)
            status = keep_hidden(pass, b);
        else
            status = hb_fail_in(status, "%s %lld", block->name, (long long)block->layer);
    }
    hb_var_drop(&pass->tape, pass->carry.residual); /* only after a failure is there one */
    pass->carry.residual = NULL;
    pass->carry.logits.data = NULL;
    return status;
}

static hb_status read_losses(struct pass *pass)
{
    struct hb_probe *probe = pass->probe;
    const struct hb_model_config *c = &probe->model->config;
    const struct hb_balance *b = &pass->carry.balance;
    int64_t aux_layers = b->kind == HB_BALANCE_HF ? 1 : b->kind == HB_BALANCE_LAYER ? b->layers : 0;
    probe->has_aux = b->layers > 0 && aux_layers > 0;
    probe->has_z = b->layers > 0 && c->router_z_loss_coef != 0;
    for (int64_t l = 0; probe->has_aux && l < aux_layers; l++) {
        float narrow;
        double wide;
        struct hb_tensor aux = hb_tensor_rows(b->aux, l, 1);
        bool is_wide = aux.dtype == HB_F64;
        HB_TRY(hb_copy_out(pass->context, is_wide ? (void *)&wide : (void *)&narrow, aux));
        probe->aux_loss += is_wide ? wide : (double)narrow;
    }
    for (int64_t l = 0; probe->has_z && l < b->layers; l++) {
        double squares;
        HB_TRY(hb_copy_out(pass->context, &squares, hb_tensor_rows(b->z_squares, l, 1)));
        probe->z_loss += squares / (double)pass->batch.tokens;
    }
    return HB_OK;
}

static hb_status loss_pass(struct pass *pass, int64_t labels)
{
    struct hb_probe *probe = pass->probe;
    struct hb_model *model = probe->model;
    const struct hb_model_config *c = &model->config;
    double sum;
    pass->carry.choices = NULL;
    pass->carry.loss_factor = (float)(1 / (double)labels);
    pass->carry.balance.aux_factor = probe->has_aux ? (float)c->router_aux_loss_coef : 0;
    pass->carry.balance.z_factor = (float)c->router_z_loss_coef;
    hb_gradients_begin(&pass->gradients, 1, model->params, model->param_count);
    hb_tape_begin(&pass->tape, probe->want_gradients ? &pass->gradients : NULL, 0);
    HB_TRY(hb_carry_load(&pass->carry, &pass->batch, model->cosine, model->sine));
    HB_TRY(hb_model_forward(model, &pass->tape, &pass->carry));
    HB_TRY(hb_copy_out(pass->context, &sum, pass->carry.loss_sum));
    probe->has_loss = true;
    probe->ce_loss = sum / (double)labels;
    probe->loss =
        probe->ce_loss + c->router_aux_loss_coef * probe->aux_loss + c->router_z_loss_coef * probe->z_loss;
    if (!probe->want_gradients)
        return HB_OK;
    HB_TRY(hb_model_backward(model, &pass->tape));
    return hb_gradients_close(&pass->gradients, model->params, model->param_count);
}

static hb_status prepare(struct pass *pass, const struct hb_probe_input *input)
{
    struct hb_probe *probe = pass->probe;
    int64_t B = probe->sequences, T = probe->length;
    HB_TRY(allocate_results(probe));
    HB_TRY(hb_carry_init(&pass->carry, pass->context, &probe->model->config, B * T));
    pass->segments = malloc((size_t)(B + 1) * sizeof *pass->segments);
    if (!pass->segments)
        return HB_FAIL(HB_EMEMORY, "out of memory for %lld sequences", (long long)B);
    for (int64_t s = 0; s <= B; s++)
        pass->segments[s] = (int32_t)(s * T);
    pass->batch = (struct hb_batch){.tokens = B * T,
                                    .ids = input->ids,
                                    .labels = input->labels,
                                    .segments = pass->segments,
                                    .segment_count = B};
    if (!probe->router_index.data)
        return HB_OK;
    int64_t moe = probe->router_index.shape[0];
    pass->carry.choices = malloc((size_t)moe * sizeof *pass->carry.choices);
    if (!pass->carry.choices)
        return HB_FAIL(HB_EMEMORY, "out of memory for the router's choices");
    for (int64_t l = 0; l < moe; l++)
        pass->carry.choices[l] = (struct hb_choices){.index = slice(probe->router_index, l),
                                                     .weight = slice(probe->router_weight, l)};
    return HB_OK;
}

/* transformers makes no gradient of the padding's embedding, where we make one like any other. */
static hb_status refuse_padding(const struct hb_model *model, const struct hb_probe_input *input)
{
    for (int64_t i = 0; i < input->sequences * input->length; i++)
        if (input->ids[i] == model->config.pad_token_id)
            return HB_FAIL(HB_EUNSUPPORTED,
                           "input_ids[%lld, %lld] is the model's pad_token_id (%d), of whose embedding "
                           "transformers makes no gradient; set pad_token_id in config.json to null",
                           (long long)(i / input->length), (long long)(i % input->length), input->ids[i]);
    return HB_OK;
}

hb_status hb_probe_run(struct hb_probe *probe, struct hb_model *model, const struct hb_probe_input *input)
{
    struct hb_context *context = model->context;
    struct pass pass = {.probe = probe, .context = context};
    struct hb_choices *choices = NULL;
    *probe = (struct hb_probe){.model = model,
                               .sequences = input->sequences,
                               .length = input->length,
                               .want_hidden = probe->want_hidden,
                               .want_router = probe->want_router,
                               .want_gradients = probe->want_gradients};
    if (probe->want_gradients && !input->labels)
        return HB_FAIL(HB_EARGUMENT, "gradients need 'labels' in the input: without them there is no loss");
    if (probe->want_gradients)
        HB_TRY(refuse_padding(model, input));
    hb_tape_init(&pass.tape, context);
    hb_gradients_init(&pass.gradients, context);
    hb_status status = prepare(&pass, input);
    choices = pass.carry.choices;
    if (status == HB_OK)
        status = logits_pass(&pass);
    if (status == HB_OK)
        status = read_losses(&pass);
    if (status == HB_OK && input->labels)
        status = loss_pass(&pass, input->label_count);
    hb_tape_release(&pass.tape);
    hb_gradients_begin(&pass.gradients, 0, model->params, model->param_count);
    hb_gradients_release(&pass.gradients);
    hb_carry_release(&pass.carry);
    free(choices);
    free(pass.segments);
    return status;
}

void hb_probe_release(struct hb_probe *probe)
{
    if (!probe->model)
        return;
    hb_free(probe->model->context, probe->logits.data);
    hb_free(probe->model->context, probe->hidden.data);
    hb_free(probe->model->context, probe->router_index.data);
    hb_free(probe->model->context, probe->router_weight.data);
    *probe = (struct hb_probe){0};
}
