#include "train/step.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/tree.h"

static hb_status allocate(struct hb_context *context, struct hb_tensor *t)
{
    return hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(t), &t->data);
}

static hb_status init(struct hb_stepper *s, int64_t tokens)
{
    struct hb_context *context = s->context;
    int64_t M = s->microbatches, L = hb_model_config_moe_layers(&s->model->config);
    HB_TRY(hb_carry_init(&s->carry, context, &s->model->config, tokens));
    s->losses = hb_tensor_1d(context, NULL, HB_F64, M);
    HB_TRY(allocate(context, &s->losses));
    if (!L)
        return HB_OK;
    s->aux = hb_tensor_2d(context, NULL, hb_real_dtype(context), M, L);
    s->z = hb_tensor_2d(context, NULL, HB_F64, M, L);
    s->counts = hb_tensor_2d(context, NULL, HB_I64, L, s->model->config.num_experts);
    HB_TRY(allocate(context, &s->aux));
    HB_TRY(allocate(context, &s->z));
    HB_TRY(allocate(context, &s->counts));
    s->counts_host = calloc((size_t)hb_tensor_count(&s->counts), sizeof *s->counts_host);
    return s->counts_host ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the expert counts");
}

hb_status hb_stepper_init(struct hb_stepper *stepper, struct hb_model *model, struct hb_optimizer *optimizer,
                          int64_t microbatches, int64_t tokens)
{
    *stepper = (struct hb_stepper){
        .context = model->context, .model = model, .optimizer = optimizer, .microbatches = microbatches, .loss_gain = 1};
    hb_tape_init(&stepper->tape, model->context);
    hb_gradients_init(&stepper->gradients, model->context);
    hb_status status = init(stepper, tokens);
    if (status != HB_OK)
        hb_stepper_release(stepper);
    return status;
}

void hb_stepper_release(struct hb_stepper *s)
{
    if (!s->context)
        return;
    hb_tape_release(&s->tape);
    hb_gradients_begin(&s->gradients, 0, s->model->params, s->model->param_count);
    hb_gradients_release(&s->gradients);
    hb_carry_release(&s->carry);
    hb_free(s->context, s->losses.data);
    hb_free(s->context, s->aux.data);
    hb_free(s->context, s->z.data);
    hb_free(s->context, s->counts.data);
    free(s->counts_host);
    *s = (struct hb_stepper){0};
}

/* Keeps what the microbatch's forward pass leaves to be reported. */
static hb_status keep(struct hb_stepper *s, int64_t m)
{
    const struct hb_balance *b = &s->carry.balance;
    HB_TRY(hb_copy(s->context, hb_tensor_rows(s->losses, m, 1), s->carry.loss_sum));
    if (!b->layers)
        return HB_OK;
    HB_TRY(hb_copy(s->context, hb_tensor_rows(s->aux, m, 1), b->aux));
    HB_TRY(hb_copy(s->context, hb_tensor_rows(s->z, m, 1), b->z_squares));
    return hb_add(s->context, &(struct hb_add_args){.a = s->counts, .b = b->counts, .out = s->counts});
}

static hb_status microbatch(struct hb_stepper *s, const struct hb_batch *batch, int64_t m)
{
    struct hb_model *model = s->model;
    hb_tape_begin(&s->tape, &s->gradients, m);
    hb_trace_microbatch(s->context, m);
    HB_TRY(hb_carry_load(&s->carry, batch, model->cosine, model->sine));
    HB_TRY(hb_model_forward(model, &s->tape, &s->carry));
    hb_fault_point(HB_FAULT_FORWARD);
    HB_TRY(keep(s, m));
    return hb_model_backward(model, &s->tape);
}

/* The sums over microbatches, by the tree of the fold. */
static hb_status report_losses(struct hb_stepper *s, const struct hb_batch *batches, int64_t M,
                               struct hb_step_report *report)
{
    int64_t L = s->carry.balance.layers;
    enum hb_balance_kind kind = s->carry.balance.kind;
    double *sums = malloc((size_t)M * sizeof *sums), *z = malloc((size_t)(M * L + 1) * sizeof *z);
    float *aux = malloc((size_t)(M * L + 1) * sizeof *aux);
    hb_status status = HB_OK;
    if (!sums || !z || !aux)
        status = HB_FAIL(HB_EMEMORY, "out of memory for the step's report");
    if (status == HB_OK)
        status = hb_copy_out(s->context, sums, hb_tensor_rows(s->losses, 0, M));
    if (status == HB_OK)
        report->loss = hb_tree_sum_f64(sums, M) / (double)report->labels;
    if (status == HB_OK && L)
        status = hb_copy_out_f32(s->context, aux, hb_tensor_rows(s->aux, 0, M));
    if (status == HB_OK && L)
        status = hb_copy_out(s->context, z, hb_tensor_rows(s->z, 0, M));
    if (status == HB_OK && L)
        status = hb_copy_out(s->context, s->counts_host, s->counts);
    if (status == HB_OK && L) {
        int64_t aux_layers = kind == HB_BALANCE_HF ? 1 : kind == HB_BALANCE_LAYER ? L : 0;
        for (int64_t m = 0; m < M; m++) {
            sums[m] = 0;
            for (int64_t l = 0; l < aux_layers; l++)
                sums[m] = sums[m] + (double)aux[m * L + l];
        }
        report->aux = hb_tree_sum_f64(sums, M) / (double)M;
        for (int64_t m = 0; m < M; m++) {
            sums[m] = 0;
            for (int64_t l = 0; l < L; l++)
                sums[m] = sums[m] + z[m * L + l] / (double)batches[m].tokens;
        }
        report->z = hb_tree_sum_f64(sums, M) / (double)M;
    }
    free(sums);
    free(z);
    free(aux);
    return status;
}

static void count_batches(const struct hb_batch *batches, int64_t M, int64_t *tokens, int64_t *labels)
{
    *tokens = *labels = 0;
    for (int64_t m = 0; m < M; m++) {
        *tokens += batches[m].tokens;
        for (int64_t i = 0; i < batches[m].tokens; i++)
            *labels += batches[m].labels[i] >= 0;
    }
}

static bool is_spike(void *context, double grad_norm)
{
    struct hb_stepper *s = context;
    return hb_spikes_judge(s->spikes, s->loss_seen, grad_norm);
}

hb_status hb_step(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, float scale, bool digest,
                  struct hb_step_report *report)
{
    struct hb_model *model = s->model;
    const struct hb_model_config *config = &model->config;
    *report = (struct hb_step_report){0};
    if (M < 1 || M > s->microbatches)
        return HB_FAIL(HB_EARGUMENT, "a step of %lld microbatches, must be from 1 to %lld", (long long)M,
                       (long long)s->microbatches);
    count_batches(batches, M, &report->tokens, &report->labels);
    if (report->labels == 0)
        return HB_FAIL(HB_EARGUMENT, "the step has no label: every one of its %lld tokens is ignored; check the data",
                       (long long)report->tokens);
    /* Rule 17: factors are made in fp64 and rounded once. */
    s->carry.loss_factor = (float)((double)scale * (double)s->loss_gain / (double)report->labels);
    bool aux = config->balance == HB_BALANCE_HF || config->balance == HB_BALANCE_LAYER;
    s->carry.balance.aux_factor = aux ? (float)((double)scale * config->router_aux_loss_coef / (double)M) : 0;
    s->carry.balance.z_factor = (float)((double)scale * config->router_z_loss_coef / (double)M);
    s->tape.pool.in_use_peak = s->tape.pool.in_use;
    if (s->counts.data)
        HB_TRY(hb_zero(s->context, s->counts));
    hb_gradients_begin(&s->gradients, M, model->params, model->param_count);
    for (int64_t m = 0; m < M; m++) {
        hb_status status = microbatch(s, &batches[m], m);
        if (status != HB_OK) {
            hb_tape_begin(&s->tape, NULL, 0);
            return hb_fail_in(status, "microbatch %lld", (long long)m);
        }
    }
    report->activation_bytes = s->tape.pool.in_use_peak;
    hb_trace_microbatch(s->context, -1);
    hb_trace_at(s->context, (struct hb_trace_place){"gradients", -1}, "fold");
    hb_fault_point(HB_FAULT_FOLD);
    HB_TRY(hb_gradients_close(&s->gradients, model->params, model->param_count));
    hb_trace_at(s->context, (struct hb_trace_place){"optimizer", -1}, "update");
    HB_TRY(report_losses(s, batches, M, report));
    s->loss_seen = report->loss;
    s->optimizer->veto = s->spikes ? is_spike : NULL;
    s->optimizer->veto_context = s;
    HB_TRY(hb_optimizer_step(s->optimizer, scale, s->counts, digest, &report->verdict));
    /* A skipped update made no hashes: take them from the parameters. */
    return digest ? hb_optimizer_digest(s->optimizer, report->verdict.skipped, report->digest) : HB_OK;
}

hb_status hb_step_evaluate(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, double *loss_sum,
                           int64_t *labels)
{
    int64_t tokens;
    *loss_sum = 0;
    count_batches(batches, M, &tokens, labels);
    for (int64_t m = 0; m < M; m++) {
        double sum;
        hb_tape_begin(&s->tape, NULL, 0);
        HB_TRY(hb_carry_load(&s->carry, &batches[m], s->model->cosine, s->model->sine));
        HB_TRY(hb_model_forward(s->model, &s->tape, &s->carry));
        HB_TRY(hb_copy_out(s->context, &sum, s->carry.loss_sum));
        *loss_sum = *loss_sum + sum;
    }
    return HB_OK;
}
