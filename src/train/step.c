#include "train/step.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/tree.h"

/* Cuts the block (NULL: only its size is asked for) into its tensors, widest elements first. */
static size_t lay_out(struct hb_stepper *s, char *block)
{
    int64_t M = s->ranks ? 0 : s->microbatches, E = s->model->config.num_experts;
    int64_t L = hb_model_config_moe_layers(&s->model->config);
    s->counts = hb_tensor_2d(s->context, NULL, HB_I64, L, E);
    s->losses = hb_tensor_1d(s->context, NULL, HB_F64, M);
    s->z = hb_tensor_2d(s->context, NULL, HB_F64, M, L);
    s->aux = hb_tensor_2d(s->context, NULL, hb_real_dtype(s->context), M, L);
    struct hb_tensor *parts[] = {&s->counts, &s->losses, &s->z, &s->aux};
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t bytes = hb_tensor_bytes(parts[i]);
        if (block && bytes)
            parts[i]->data = block + used;
        used += bytes;
    }
    return used;
}

static hb_status allocate(struct hb_stepper *s)
{
    s->results = hb_tensor_1d(s->context, NULL, HB_U8, (int64_t)lay_out(s, NULL));
    size_t bytes = hb_tensor_bytes(&s->results);
    HB_TRY(hb_alloc(s->context, HB_MEMORY_ACTIVATIONS, bytes, &s->results.data));
    HB_TRY(hb_zero(s->context, s->results)); /* a step of fewer microbatches leaves some of it as it is */
    lay_out(s, s->results.data);
    s->results_host = calloc(bytes + 1, 1);
    s->counts_host = (int64_t *)s->results_host;
    s->rank_rows = calloc(s->ranks ? (size_t)hb_comm_size(s->ranks->mesh.world) : 1, sizeof *s->rank_rows);
    if (!s->results_host || !s->rank_rows)
        return HB_FAIL(HB_EMEMORY, "out of memory for what a step reports");
    return HB_OK;
}

hb_status hb_stepper_init(struct hb_stepper *stepper, struct hb_model *model, struct hb_optimizer *optimizer,
                          int64_t microbatches, int64_t tokens)
{
    *stepper = (struct hb_stepper){
        .context = model->context, .model = model, .optimizer = optimizer, .microbatches = microbatches,
        .loss_gain = 1};
    hb_tape_init(&stepper->tape, model->context);
    hb_gradients_init(&stepper->gradients, model->context);
    hb_status status = hb_carry_init(&stepper->carry, model->context, &model->config, tokens);
    if (status == HB_OK)
        status = allocate(stepper);
    if (status != HB_OK)
        hb_stepper_release(stepper);
    return status;
}

hb_status hb_stepper_init_ranks(struct hb_stepper *stepper, struct hb_ranks *ranks,
                                struct hb_optimizer *optimizer)
{
    struct hb_model *model = ranks->model;
    *stepper = (struct hb_stepper){.context = model->context,
                                   .model = model,
                                   .optimizer = optimizer,
                                   .ranks = ranks,
                                   .microbatches = ranks->options.microbatches,
                                   .loss_gain = 1};
    hb_status status = allocate(stepper);
    if (status != HB_OK)
        hb_stepper_release(stepper);
    return status;
}

void hb_stepper_release(struct hb_stepper *s)
{
    if (!s->context)
        return;
    if (!s->ranks) {
        hb_tape_release(&s->tape);
        hb_gradients_begin(&s->gradients, 0, s->model->params, s->model->param_count);
        hb_gradients_release(&s->gradients);
        hb_carry_release(&s->carry);
    }
    hb_free(s->context, s->results.data);
    free(s->results_host);
    free(s->rank_rows);
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
    if (s->timeline)
        HB_TRY(hb_copy_out(s->context, s->counts_host, b->counts));
    for (int64_t l = 0; s->timeline && l < b->layers; l++)
        hb_timeline_routing(s->timeline, m, l, s->counts_host + l * b->experts, b->experts);
    return hb_add(s->context, &(struct hb_add_args){.a = s->counts, .b = b->counts, .out = s->counts});
}

static hb_status forward(struct hb_stepper *s, const struct hb_batch *batch, int64_t m)
{
    struct hb_model *model = s->model;
    hb_tape_begin(&s->tape, &s->gradients, m);
    hb_trace_microbatch(s->context, m);
    HB_TRY(hb_carry_load(&s->carry, batch, model->cosine, model->sine));
    HB_TRY(hb_model_forward(model, &s->tape, &s->carry));
    HB_TRY(hb_fault_point(HB_FAULT_FORWARD));
    return keep(s, m);
}

static hb_status microbatch(struct hb_stepper *s, const struct hb_batch *batch, int64_t m)
{
    char text[HB_ACTION_TEXT];
    hb_timeline_begin(s->timeline);
    hb_status status = forward(s, batch, m);
    hb_timeline_end(s->timeline, HB_SPAN_COMPUTE,
                    hb_action_text(&(struct hb_action){.kind = HB_ACTION_F, .microbatch = m}, text));
    HB_TRY(status);
    hb_timeline_begin(s->timeline);
    status = hb_model_backward(s->model, &s->tape);
    hb_timeline_end(s->timeline, HB_SPAN_COMPUTE,
                    hb_action_text(&(struct hb_action){.kind = HB_ACTION_B, .microbatch = m}, text));
    return status;
}

/* What a step's microbatches leave to be reported. */
struct results {
    double *loss, *tokens; /* [M] */
    double *aux, *z;       /* [M, L] */
    double *sums;          /* [M], working memory */
};

static hb_status results_init(struct results *r, int64_t M, int64_t L)
{
    double *memory = calloc((size_t)(M * (3 + 2 * L)), sizeof *memory);
    *r = (struct results){memory, memory + M, memory + 3 * M, memory + (3 + L) * M, memory + 2 * M};
    return memory ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the step's report");
}

/* Where a tensor of the block lies on the host. */
static const void *on_host(const struct hb_stepper *s, const struct hb_tensor *t)
{
    return !t->data ? NULL : s->results_host + ((const char *)t->data - (const char *)s->results.data);
}

static hb_status fetch(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, int64_t L,
                       struct results *r)
{
    HB_TRY(hb_copy_out(s->context, s->results_host, s->results));
    const double *loss = on_host(s, &s->losses), *z = on_host(s, &s->z);
    const void *aux = on_host(s, &s->aux);
    for (int64_t m = 0; m < M; m++) {
        r->loss[m] = loss[m];
        r->tokens[m] = (double)batches[m].tokens;
    }
    for (int64_t i = 0; i < M * L; i++) {
        r->z[i] = z[i];
        r->aux[i] = s->aux.dtype == HB_F64 ? ((const double *)aux)[i] : (double)((const float *)aux)[i];
    }
    s->rank_rows[0] = 0;
    for (int64_t i = 0; i < hb_tensor_count(&s->counts); i++)
        s->rank_rows[0] += s->counts_host[i];
    return HB_OK;
}

static hb_status fetch_ranks(struct hb_stepper *s, int64_t M, int64_t L, struct results *r)
{
    const struct hb_step_results *from = &s->ranks->executor.results;
    int64_t aux_layers = s->model->config.balance == HB_BALANCE_LAYER
                             ? L
                             : s->model->config.balance == HB_BALANCE_HF;
    HB_TRY(hb_executor_report(&s->ranks->executor));
    memcpy(s->counts_host, from->counts, hb_tensor_bytes(&s->counts));
    memcpy(s->rank_rows, from->rank_rows,
           (size_t)hb_comm_size(s->ranks->mesh.world) * sizeof *s->rank_rows);
    for (int64_t m = 0; m < M; m++) {
        r->loss[m] = hb_result_loss(from, m);
        r->tokens[m] = (double)hb_result_tokens(from, m);
        for (int64_t l = 0; l < L; l++) {
            r->aux[m * L + l] = l < aux_layers ? hb_result_aux(from, m, l) : 0;
            r->z[m * L + l] = hb_result_z(from, m, l);
        }
    }
    return L ? hb_copy_in(s->context, s->counts, s->counts_host) : HB_OK;
}

/* The sums over microbatches, by the tree of the fold. */
static void summarise(const struct hb_model_config *config, int64_t M, int64_t L, const struct results *r,
                      struct hb_step_report *report)
{
    int64_t aux_layers = config->balance == HB_BALANCE_HF ? 1 : config->balance == HB_BALANCE_LAYER ? L : 0;
    report->loss = hb_tree_sum_f64(r->loss, M) / (double)report->labels;
    if (!L)
        return;
    for (int64_t m = 0; m < M; m++) {
        r->sums[m] = 0;
        for (int64_t l = 0; l < aux_layers; l++)
            r->sums[m] = r->sums[m] + r->aux[m * L + l];
    }
    report->aux = hb_tree_sum_f64(r->sums, M) / (double)M;
    for (int64_t m = 0; m < M; m++) {
        r->sums[m] = 0;
        for (int64_t l = 0; l < L; l++)
            r->sums[m] = r->sums[m] + r->z[m * L + l] / r->tokens[m];
    }
    report->z = hb_tree_sum_f64(r->sums, M) / (double)M;
}

static hb_status report_losses(struct hb_stepper *s, const struct hb_batch *batches, int64_t M,
                               struct hb_step_report *report)
{
    struct results results;
    int64_t L = hb_model_config_moe_layers(&s->model->config);
    HB_TRY(results_init(&results, M, L));
    hb_status status = s->ranks ? fetch_ranks(s, M, L, &results) : fetch(s, batches, M, L, &results);
    if (status == HB_OK)
        summarise(&s->model->config, M, L, &results, report);
    free(results.loss);
    return status;
}

/* Of all, or of those wanted. */
static void count_batches(const struct hb_batch *batches, int64_t M, const bool *wanted, int64_t *tokens,
                          int64_t *labels)
{
    *tokens = *labels = 0;
    for (int64_t m = 0; m < M; m++) {
        if (wanted && !wanted[m])
            continue;
        *tokens += batches[m].tokens;
        for (int64_t i = 0; i < batches[m].tokens; i++)
            *labels += batches[m].labels[i] >= 0;
    }
}

/* Every data rank counts its own. */
static hb_status count_ranks(const struct hb_stepper *s, const struct hb_batch *batches, int64_t M,
                             struct hb_step_report *report)
{
    bool *wanted = calloc((size_t)s->microbatches, sizeof *wanted);
    int64_t counts[2];
    if (!wanted)
        return HB_FAIL(HB_EMEMORY, "out of memory for a step");
    hb_ranks_wanted(s->ranks, wanted);
    count_batches(batches, M, wanted, &counts[0], &counts[1]);
    free(wanted);
    HB_TRY(hb_comm_sum(s->ranks->mesh.data, counts, 2));
    report->tokens = counts[0];
    report->labels = counts[1];
    return HB_OK;
}

static bool is_spike(void *context, double grad_norm)
{
    struct hb_stepper *s = context;
    return hb_spikes_judge(s->spikes, s->loss_seen, grad_norm);
}

/* Rule 17: factors are made in fp64 and rounded once. */
static struct hb_factors factors_of(const struct hb_stepper *s, float scale, int64_t labels, int64_t M)
{
    const struct hb_model_config *c = &s->model->config;
    bool aux = c->balance == HB_BALANCE_HF || c->balance == HB_BALANCE_LAYER;
    return (struct hb_factors){
        .loss = (float)((double)scale * (double)s->loss_gain / (double)labels),
        .aux = aux ? (float)((double)scale * c->router_aux_loss_coef / (double)M) : 0,
        .z = (float)((double)scale * c->router_z_loss_coef / (double)M),
    };
}

/* All microbatches on this rank, one after the other. */
static hb_status run(struct hb_stepper *s, const struct hb_batch *batches, int64_t M,
                     struct hb_factors factors, struct hb_step_report *report)
{
    struct hb_model *model = s->model;
    s->carry.loss_factor = factors.loss;
    s->carry.balance.aux_factor = factors.aux;
    s->carry.balance.z_factor = factors.z;
    s->tape.extremes = s->optimizer->extremes;
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
    report->bytes[HB_FOOTPRINT_ACTIVATIONS] = s->tape.pool.in_use_peak;
    report->bytes[HB_FOOTPRINT_FOLD] = s->gradients.pool.in_use_peak;
    hb_trace_microbatch(s->context, -1);
    hb_trace_at(s->context, (struct hb_trace_place){"gradients", -1}, "fold");
    HB_TRY(hb_fault_point(HB_FAULT_FOLD));
    return hb_gradients_close(&s->gradients, model->params, model->param_count);
}

/* The share of this rank, by its schedule. */
static hb_status run_ranks(struct hb_stepper *s, const struct hb_batch *batches, int64_t M,
                           struct hb_factors factors)
{
    struct hb_executor *executor = &s->ranks->executor;
    executor->extremes = s->optimizer->extremes;
    return hb_executor_step(executor, batches, M, factors);
}

/* What lies there from step to step is counted where it was allocated. */
static void count_bytes(const struct hb_stepper *s, struct hb_step_report *report)
{
    if (s->ranks)
        hb_executor_footprint(&s->ranks->executor, report->bytes);
    report->bytes[HB_FOOTPRINT_PARAMETERS] = hb_memory_now(HB_MEMORY_PARAMETERS);
    report->bytes[HB_FOOTPRINT_GRADIENTS] = hb_memory_now(HB_MEMORY_GRADIENTS);
    report->bytes[HB_FOOTPRINT_OPTIMIZER] = hb_memory_now(HB_MEMORY_OPTIMIZER);
    hb_timeline_memory(s->timeline, report->bytes);
}

/* What follows when the gradients are there. */
static hb_status finish(struct hb_stepper *s, float scale, bool digest, struct hb_step_report *report)
{
    s->optimizer->veto = s->spikes ? is_spike : NULL;
    s->optimizer->veto_context = s;
    hb_timeline_begin(s->timeline);
    hb_status status = hb_optimizer_step(s->optimizer, scale, s->counts, digest, &report->verdict);
    hb_timeline_end(s->timeline, HB_SPAN_COMPUTE, "update");
    HB_TRY(status);
    if (s->ranks)
        HB_TRY(hb_ranks_spread(s->ranks));
    count_bytes(s, report);
    if (!digest)
        return HB_OK;
    hb_timeline_begin(s->timeline);
    /* A skipped update made no hashes: take them from the parameters. */
    status = hb_optimizer_digest(s->optimizer, report->verdict.skipped, report->digest);
    hb_timeline_end(s->timeline, HB_SPAN_COMPUTE, "digest");
    return status;
}

hb_status hb_step(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, float scale, bool digest,
                  struct hb_step_report *report)
{
    *report = (struct hb_step_report){0};
    if (M < 1 || M > s->microbatches)
        return HB_FAIL(HB_EARGUMENT, "a step of %lld microbatches, must be from 1 to %lld", (long long)M,
                       (long long)s->microbatches);
    if (s->ranks)
        HB_TRY(count_ranks(s, batches, M, report));
    else
        count_batches(batches, M, NULL, &report->tokens, &report->labels);
    if (report->labels == 0)
        return HB_FAIL(HB_EARGUMENT,
                       "the step has no label: every one of its %lld tokens is ignored; check the data",
                       (long long)report->tokens);
    struct hb_factors factors = factors_of(s, scale, report->labels, M);
    HB_TRY(hb_zero(s->context, s->optimizer->extremes));
    HB_TRY(s->ranks ? run_ranks(s, batches, M, factors) : run(s, batches, M, factors, report));
    hb_trace_at(s->context, (struct hb_trace_place){"optimizer", -1}, "update");
    /* The judge of spikes wants the loss before the update, the bias that steers selection all ranks' counts;
     * else the host waits once, behind it. */
    bool early = s->spikes || (s->ranks && s->model->config.balance == HB_BALANCE_BIAS);
    if (early)
        HB_TRY(report_losses(s, batches, M, report));
    s->loss_seen = report->loss;
    HB_TRY(finish(s, scale, digest, report));
    return early ? HB_OK : report_losses(s, batches, M, report);
}

static hb_status evaluate(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, double *sums)
{
    for (int64_t m = 0; m < M; m++) {
        hb_tape_begin(&s->tape, NULL, 0);
        HB_TRY(hb_carry_load(&s->carry, &batches[m], s->model->cosine, s->model->sine));
        HB_TRY(hb_model_forward(s->model, &s->tape, &s->carry));
        HB_TRY(hb_copy_out(s->context, &sums[m], s->carry.loss_sum));
    }
    return HB_OK;
}

hb_status hb_step_evaluate(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, double before,
                           double *loss_sum, int64_t *labels)
{
    int64_t tokens;
    double *sums = calloc((size_t)M, sizeof *sums);
    if (!sums)
        return HB_FAIL(HB_EMEMORY, "out of memory for an evaluation");
    count_batches(batches, M, NULL, &tokens, labels);
    hb_status status = s->ranks ? hb_executor_evaluate(&s->ranks->executor, batches, M, sums)
                                : evaluate(s, batches, M, sums);
    *loss_sum = before;
    for (int64_t m = 0; m < M; m++)
        *loss_sum = *loss_sum + sums[m];
    free(sums);
    return status;
}
