#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/registry.h"
#include "core/fault.h"
#include "core/file.h"
#include "core/log.h"
#include "data/manifest.h"
#include "model/weights.h"
#include "ops/clock.h"
#include "train/checkpoint.h"
#include "train/diagnose.h"
#include "train/evaluate.h"
#include "train/literal.h"

/* --- opening --- */

/* A failure of what `key` names. */
static hb_status at_key(const struct hb_run_config *c, const char *key, hb_status status)
{
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s: %s", hb_yaml_place(c->doc, key), key);
}

/* The shape that init_from names is that of its folder, later of the checkpoint: the folder may be gone by
 * then. */
static hb_status open_model_config(struct hb_trainer *t, const char *checkpoint)
{
    struct hb_run_config *c = t->config;
    int32_t vocabulary = hb_tokenizer_vocabulary(t->tokenizer);
    if (c->init_from) {
        char *path = hb_path_join(checkpoint[0] ? checkpoint : c->init_from, "config.json");
        hb_status status = path ? hb_model_config_read(path, &c->model)
                                : HB_FAIL(HB_EMEMORY, "out of memory");
        free(path);
        HB_TRY(status);
        c->model.precision = c->precision; /* the run's, whatever those weights were trained with */
    } else if (c->model.vocab_size == 0) {
        c->model.vocab_size = vocabulary;
    }
    if (c->model.vocab_size < vocabulary)
        return HB_FAIL(
            HB_EARGUMENT,
            "%s: model.vocab_size (%lld) is smaller than the vocabulary of %s (%d); raise it or leave it out",
            hb_yaml_place(c->doc, "model.vocab_size"), (long long)c->model.vocab_size, c->tokenizer,
            vocabulary);
    if (c->model.eos_token_id < 0)
        c->model.eos_token_id = hb_tokenizer_end_of_text(t->tokenizer);
    if (c->sequence_length > c->model.max_position_embeddings)
        return HB_FAIL(HB_EARGUMENT,
                       "%s: data.sequence_length (%lld) must not exceed max_position_embeddings (%lld)",
                       hb_yaml_place(c->doc, "data.sequence_length"), (long long)c->sequence_length,
                       (long long)c->model.max_position_embeddings);
    return hb_run_config_check_model(c);
}

/* Shards that `hornbook data build` made say with which tokenizer: another one
 * would give other meanings to the same ids. (Shards of other makers say nothing.) */
static hb_status check_tokenizer(const struct hb_trainer *t, const char *shard)
{
    static const char *const sides[] = {"-train", "-heldout"};
    char prefix[4096], path[4200];
    snprintf(prefix, sizeof prefix, "%s", shard);
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(prefix), side = strlen(sides[i]);
        if (length > side && strcmp(prefix + length - side, sides[i]) == 0)
            prefix[length - side] = '\0';
    }
    snprintf(path, sizeof path, "%s.json", prefix);
    if (!hb_file_exists(path))
        return HB_OK;
    struct hb_manifest manifest;
    HB_TRY(hb_manifest_read(prefix, &manifest));
    if (strcmp(manifest.tokenizer_hash, hb_tokenizer_hash(t->tokenizer)) != 0)
        return HB_FAIL(HB_EARGUMENT,
                       "%s was built with another tokenizer than %s; name that one, or build the data anew",
                       shard, t->config->tokenizer);
    return HB_OK;
}

static hb_status open_stream(struct hb_trainer *t, const char *key, const char *const *prefixes,
                             int64_t count, bool shuffle, struct hb_stream **out)
{
    const struct hb_run_config *c = t->config;
    struct hb_stream_options options = {
        .prefixes = prefixes,
        .prefix_count = (size_t)count,
        .vocabulary = (int32_t)c->model.vocab_size,
        .end_of_text = hb_tokenizer_end_of_text(t->tokenizer),
        .tokens = c->sequence_length,
        .cross_documents = c->cross_documents,
        .shuffle = shuffle,
        .seed = (uint64_t)c->seed,
    };
    if (options.end_of_text < 0)
        return HB_FAIL(HB_EARGUMENT, "%s has no token %s; documents could not be told apart", c->tokenizer,
                       HB_END_OF_TEXT);
    for (int64_t i = 0; i < count; i++)
        HB_TRY(check_tokenizer(t, prefixes[i]));
    return at_key(c, key, hb_stream_create(&options, out));
}

static hb_status open_data(struct hb_trainer *t)
{
    const struct hb_run_config *c = t->config;
    HB_TRY(open_stream(t, "data.train", c->train, c->train_count, c->shuffle, &t->train));
    if (c->held_out)
        HB_TRY(open_stream(t, "data.held_out", &c->held_out, 1, false, &t->held_out));
    return hb_batches_init(&t->batches, c->accumulate, c->microbatch, c->sequence_length);
}

/* Ranks on one machine share its processors. */
static int threads_of(const struct hb_run_config *c)
{
    int ranks = c->world && hb_comm_size(c->world) > 1 ? hb_comm_local_ranks() : 1;
    if (c->threads || ranks == 1)
        return (int)c->threads;
    int all = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return all > ranks ? all / ranks : 1;
}

/* This rank's part of the model, and what runs it. */
static hb_status open_rank(struct hb_trainer *t, const struct hb_optimizer_config *optimizer)
{
    const struct hb_run_config *c = t->config;
    struct hb_ranks_options options = {
        .shape = {c->dp, c->ep, c->pp}, .zero = (int)c->zero, .schedule = c->schedule,
        .microbatches = c->accumulate, .transport = (enum hb_transport_choice)c->transport,
        .recompute = c->recompute, .sequences = c->microbatch, .length = c->sequence_length};
    t->wanted = calloc((size_t)c->accumulate, sizeof *t->wanted);
    if (!t->wanted)
        return HB_FAIL(HB_EMEMORY, "out of memory for a trainer");
    hb_comm_set_timeout(c->timeout);
    if (c->costs) {
        HB_TRY(hb_block_costs_load(c->costs, c->model.num_hidden_layers + 2, &t->costs));
        options.costs = &t->costs;
    }
    HB_TRY(hb_ranks_open(&t->ranks, c->world, &options, &c->model));
    HB_TRY(hb_model_outline(&t->context, &c->model, &t->ranks.part, &t->model));
    t->model->recompute = c->recompute;
    HB_TRY(hb_ranks_attach(&t->ranks, t->model));
    HB_TRY(hb_model_allocate(t->model, c->sequence_length, true));
    HB_TRY(hb_optimizer_init_ranks(&t->optimizer, t->model, &t->ranks.mesh, optimizer));
    HB_TRY(hb_ranks_start(&t->ranks, c->microbatch * c->sequence_length));
    hb_ranks_wanted(&t->ranks, t->wanted);
    return hb_stepper_init_ranks(&t->stepper, &t->ranks, &t->optimizer);
}

static hb_status open_alone(struct hb_trainer *t, const struct hb_optimizer_config *optimizer)
{
    const struct hb_run_config *c = t->config;
    HB_TRY(hb_mesh_check((struct hb_mesh_shape){c->dp, c->ep, c->pp}, 1, c->model.num_experts,
                         c->model.num_hidden_layers + 2));
    HB_TRY(hb_model_create(&t->context, &c->model, c->sequence_length, true, &t->model));
    t->model->recompute = c->recompute;
    HB_TRY(hb_optimizer_init(&t->optimizer, t->model, optimizer));
    return hb_stepper_init(&t->stepper, t->model, &t->optimizer, c->accumulate,
                           c->microbatch * c->sequence_length);
}

static hb_status open_model(struct hb_trainer *t)
{
    struct hb_run_config *c = t->config;
    const struct hb_backend *backend;
    HB_TRY(hb_backend_find(c->backend, &backend));
    if (!(backend->storage & HB_STORAGE(HB_F32)))
        return HB_FAIL(HB_EARGUMENT, "%s: backend %s cannot train: it does not hold fp32 tensors",
                       hb_yaml_place(c->doc, "backend"), c->backend);
    if (hb_precision_storage(&c->precision) & ~backend->storage)
        return HB_FAIL(HB_EARGUMENT,
                       "%s: backend %s does not store all types of this precision; choose another one",
                       hb_yaml_place(c->doc, "precision"), c->backend);
    HB_TRY(hb_context_open(backend, (enum hb_numerics)c->numerics, threads_of(c), &t->context));
    struct hb_optimizer_config optimizer = hb_run_config_optimizer(c);
    HB_TRY(c->world && hb_comm_size(c->world) > 1 ? open_rank(t, &optimizer) : open_alone(t, &optimizer));
    hb_scaler_init(&t->scaler, &c->loss_scale);
    t->optimizer.unguarded = !c->loss_scale.skip;
    t->spikes.rule = c->spikes;
    t->stepper.spikes = c->spikes.window ? &t->spikes : NULL;
    t->faults = (struct hb_faults){.list = c->faults, .count = c->fault_count};
    return hb_faults_check(&t->faults, &t->stepper);
}

/* --- the run folder --- */

static hb_status write_config(struct hb_trainer *t)
{
    char *text, *path = hb_path_join(t->config->run_folder, "config.yaml");
    hb_status status = path ? hb_run_config_text(t->config, &text) : HB_FAIL(HB_EMEMORY, "out of memory");
    if (status == HB_OK) {
        status = hb_file_write(path, text, strlen(text));
        free(text);
    }
    free(path);
    return status;
}

/* The checkpoint to go on from; "": the run begins. */
static hb_status find_checkpoint_alone(const struct hb_run_config *c, bool resume, char *checkpoint,
                                       size_t size)
{
    HB_TRY(hb_checkpoint_clean(c->run_folder));
    HB_TRY(hb_checkpoint_find(c->run_folder, checkpoint, size));
    if (checkpoint[0] && !resume)
        return HB_FAIL(HB_EEXIST,
                       "%s already holds a run; continue it with --resume, or choose another run_folder",
                       c->run_folder);
    if (!checkpoint[0] && resume)
        hb_log(HB_LOG_WARNING, "%s holds no checkpoint; starting from the beginning", c->run_folder);
    return HB_OK;
}

/* The first rank looks; all go on from the same one. */
static hb_status find_checkpoint(const struct hb_trainer *t, bool resume, char *checkpoint, size_t size)
{
    struct hb_comm *world = t->config->world;
    hb_status status = t->chief ? find_checkpoint_alone(t->config, resume, checkpoint, size) : HB_OK;
    if (!world)
        return status;
    HB_TRY(hb_comm_agree(world, status));
    return hb_comm_broadcast(world, 0, checkpoint, size);
}

/* Fresh weights, or those of the checkpoint or folder that the run starts from. */
static hb_status start_weights(struct hb_trainer *t, const char *checkpoint)
{
    struct hb_run_config *c = t->config;
    if (!checkpoint[0])
        return c->init_from ? hb_model_load(t->model, c->init_from)
                            : hb_model_initialise(t->model, (uint64_t)c->seed);
    struct hb_run_state state;
    HB_TRY(hb_run_config_same(c));
    HB_TRY(hb_checkpoint_load(checkpoint, t->model, &t->optimizer, &state));
    t->attempted = state.attempted;
    t->tokens = state.tokens;
    t->scaler.scale = state.scale;
    t->scaler.clean = state.scaler_clean;
    t->scaler.patience = state.scaler_patience;
    t->skips = state.skips;
    t->spikes.loss = state.spike_loss;
    t->spikes.grad_norm = state.spike_grad_norm;
    t->resumed_from = t->saved_at = state.attempted;
    return HB_OK;
}

static hb_status open_all(struct hb_trainer *t, bool resume)
{
    struct hb_run_config *c = t->config;
    char checkpoint[4096], *lock = hb_path_join(c->run_folder, "lock");
    hb_status status = lock ? hb_folder_create(c->run_folder) : HB_FAIL(HB_EMEMORY, "out of memory");
    if (status == HB_OK && t->chief)
        status = hb_lock_take(lock, &t->lock);
    free(lock);
    if (c->world)
        status = hb_comm_agree(c->world, status);
    HB_TRY(status);
    HB_TRY(find_checkpoint(t, resume, checkpoint, sizeof checkpoint));
    HB_TRY(at_key(c, "data.tokenizer", hb_tokenizer_open(c->tokenizer, &t->tokenizer)));
    HB_TRY(open_model_config(t, checkpoint));
    HB_TRY(open_data(t));
    HB_TRY(open_model(t));
    HB_TRY(start_weights(t, checkpoint));
    if (t->chief)
        HB_TRY(write_config(t));
    HB_TRY(hb_optimizer_digest(&t->optimizer, true, t->digest));
    if (!t->chief)
        return HB_OK;
    if (hb_model_config_moe_layers(&c->model))
        HB_TRY(hb_expert_lines_open(&t->experts, c->run_folder, t->attempted));
    return hb_metrics_open(&t->metrics, c->run_folder, t->attempted, c->tensorboard);
}

/* One rank's failure is everybody's. */
static hb_status together(const struct hb_trainer *t, hb_status status)
{
    return t->config->world ? hb_comm_fail(t->config->world, status) : status;
}

hb_status hb_trainer_create(struct hb_run_config *config, bool resume, struct hb_trainer **out)
{
    struct hb_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return HB_FAIL(HB_EMEMORY, "out of memory for a trainer");
    t->config = config;
    t->lock = -1;
    t->saved_at = -1;
    t->chief = !config->world || hb_comm_rank(config->world) == 0;
    t->loss = t->held_out_loss = (double)NAN;
    hb_status status = together(t, open_all(t, resume));
    if (status != HB_OK) {
        hb_trainer_destroy(t);
        return status;
    }
    *out = t;
    return HB_OK;
}

void hb_trainer_destroy(struct hb_trainer *t)
{
    if (!t || !hb_comm_is_whole()) /* then messages may still come into its memory until the process ends */
        return;
    hb_metrics_close(&t->metrics);
    hb_expert_lines_close(&t->experts);
    hb_run_trace_destroy(t->trace);
    hb_timeline_observe(NULL);
    if (hb_timeline_destroy(t->timeline) != HB_OK) /* of a run that failed */
        hb_log(HB_LOG_WARNING, "%s", hb_error());
    hb_batches_release(&t->batches);
    hb_stepper_release(&t->stepper);
    hb_optimizer_release(&t->optimizer);
    hb_ranks_close(&t->ranks);
    hb_block_costs_release(&t->costs);
    free(t->wanted);
    hb_model_destroy(t->model);
    hb_stream_destroy(t->train);
    hb_stream_destroy(t->held_out);
    hb_tokenizer_destroy(t->tokenizer);
    hb_context_close(&t->context);
    if (t->lock >= 0)
        hb_lock_release(t->lock);
    free(t);
}

hb_status hb_trainer_trace(struct hb_trainer *t, const struct hb_trace_request *request)
{
    const char *folder = t->config->run_folder;
    int rank = t->stepper.ranks ? hb_comm_rank(t->config->world) : -1;
    hb_status status = t->chief ? hb_run_trace_trim(folder, t->attempted) : HB_OK;
    if (rank >= 0)
        status = hb_comm_agree(t->config->world, status);
    if (status == HB_OK)
        status = hb_run_trace_create(folder, rank, request, t->model, &t->trace);
    return together(t, status);
}

static const struct hb_mesh *mesh_of(const struct hb_trainer *t)
{
    return t->stepper.ranks ? &t->ranks.mesh : NULL;
}

hb_status hb_trainer_timeline(struct hb_trainer *t)
{
    HB_TRY(together(t, hb_run_timeline_open(t->config->run_folder, mesh_of(t), &t->timeline)));
    t->stepper.timeline = t->timeline;
    if (t->stepper.ranks)
        t->ranks.executor.timeline = t->timeline;
    return HB_OK;
}

static hb_status close_timeline(struct hb_trainer *t)
{
    struct hb_timeline *timeline = t->timeline;
    if (!timeline)
        return HB_OK;
    t->timeline = t->stepper.timeline = t->ranks.executor.timeline = NULL;
    return hb_run_timeline_close(timeline, t->config->run_folder, mesh_of(t), &t->timeline_totals);
}

/* --- running --- */

/* The step's lines; only the chief writes. */
static hb_status write_lines(struct hb_trainer *t, struct hb_metrics_line *line)
{
    const struct hb_stepper *s = &t->stepper;
    int64_t L = hb_model_config_moe_layers(&s->model->config), E = s->model->config.num_experts;
    if (!t->chief)
        return HB_OK;
    if (!L)
        return hb_metrics_write(&t->metrics, line);
    struct hb_expert_load load = hb_expert_load_of(s->counts_host, L, E);
    line->experts = &load;
    HB_TRY(hb_metrics_write(&t->metrics, line));
    struct hb_rank_rows rows = {s->rank_rows, 1, 1};
    if (s->ranks)
        rows = (struct hb_rank_rows){s->rank_rows, hb_comm_size(t->config->world), t->ranks.mesh.data_ranks};
    return hb_expert_lines_write(&t->experts, line->step, s->counts_host, L, E, &rows);
}

static void show_progress(const struct hb_trainer *t, double tokens_per_second, double seconds_left)
{
    enum { BAR = 20 };
    int64_t steps = t->config->steps, left = (int64_t)(seconds_left + 0.5);
    char bar[BAR + 1], held_out[48] = "";
    for (int i = 0; i < BAR; i++)
        bar[i] = t->attempted * BAR >= (i + 1) * steps ? '#' : '.';
    bar[BAR] = '\0';
    if (isfinite(t->held_out_loss))
        snprintf(held_out, sizeof held_out, ", held-out %.3f", t->held_out_loss);
    hb_progress("step %lld/%lld [%s] loss %.4f%s, %.0f tokens/s, %lld:%02lld:%02lld left",
                (long long)t->attempted, (long long)steps, bar, t->loss, held_out, tokens_per_second,
                (long long)(left / 3600), (long long)(left / 60 % 60), (long long)(left % 60));
}

static hb_status evaluate(struct hb_trainer *t)
{
    struct hb_evaluation e;
    hb_timeline_begin(t->timeline);
    HB_TRY(hb_evaluate(&t->stepper, &t->batches, t->held_out, t->config->evaluate_samples, &e));
    hb_timeline_end(t->timeline, HB_SPAN_OTHER, "evaluation");
    t->held_out_loss = e.loss;
    return HB_OK;
}

static hb_status save(struct hb_trainer *t)
{
    if (t->saved_at == t->attempted)
        return HB_OK;
    hb_timeline_begin(t->timeline);
    HB_TRY(hb_optimizer_digest(&t->optimizer, true, t->digest));
    const struct hb_run_config *c = t->config;
    struct hb_run_state state = {
        .seed = (uint64_t)c->seed,
        .attempted = t->attempted,
        .samples = t->attempted * c->accumulate * c->microbatch,
        .tokens = t->tokens,
        .scale = t->scaler.scale,
        .scaler_clean = t->scaler.clean,
        .scaler_patience = t->scaler.patience,
        .skips = t->skips,
        .spike_loss = t->spikes.loss,
        .spike_grad_norm = t->spikes.grad_norm,
    };
    HB_TRY(hb_checkpoint_save(t->config->run_folder, &t->optimizer, &state, t->config->tokenizer,
                              (int)t->config->keep_checkpoints));
    hb_timeline_end(t->timeline, HB_SPAN_OTHER, "checkpoint");
    t->saved_at = t->attempted;
    return HB_OK;
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

/* Too many steps in a row were not applied: why must the run end? */
static hb_status give_up(struct hb_trainer *t, const struct hb_verdict *verdict, float scale)
{
    static const char what[] = "%lld steps in a row were skipped or not finite (training.stop_after_skips)%s";
    if (!verdict->nonfinite)
        return HB_FAIL(HB_ENONFINITE, what, (long long)t->skips,
                       ": this one is a spike (training.spikes), but finite; earlier checkpoints are whole");
    return hb_fail_in(hb_diagnose(&t->stepper, t->batches.batch, t->config->accumulate, scale), what,
                      (long long)t->skips, "");
}

/* The step itself, with what was planned to go wrong in it, and the scaler's answer. */
static hb_status step(struct hb_trainer *t, struct hb_step_report *report)
{
    const struct hb_run_config *c = t->config;
    bool digest = due(t->attempted + 1, c->digest_every);
    bool literal = c->loss_scale.preset == HB_SCALER_ARTICLE_LITERAL;
    float scale = (float)t->scaler.scale;
    HB_TRY(hb_scaler_usable(&t->scaler));
    HB_TRY(hb_faults_begin(&t->faults, t->attempted + 1, &t->batches, &t->stepper));
    hb_run_trace_begin(t->trace, t->attempted + 1);
    bool later = t->faults.poisoned; /* the digest is that of the weights without the fault */
    HB_TRY((literal ? hb_step_literal : hb_step)(&t->stepper, t->batches.batch, c->accumulate, scale,
                                                 digest && !later, report));
    HB_TRY(hb_run_trace_end(t->trace));
    t->skips = report->verdict.skipped || report->verdict.nonfinite ? t->skips + 1 : 0;
    if (c->stop_after_skips && t->skips >= c->stop_after_skips)
        return give_up(t, &report->verdict, scale);
    if (hb_scaler_update(&t->scaler, report->verdict.nonfinite) == HB_SCALER_STOP)
        return hb_fail_in(hb_diagnose(&t->stepper, t->batches.batch, c->accumulate, scale),
                          "the loss scale is at its minimum and cannot fall");
    HB_TRY(hb_faults_end(&t->faults, &t->stepper));
    return digest && later ? hb_optimizer_digest(&t->optimizer, true, report->digest) : HB_OK;
}

/* One step with everything that belongs to it; `seconds` is the step's own time. */
static hb_status advance(struct hb_trainer *t, double *seconds)
{
    const struct hb_run_config *c = t->config;
    struct hb_step_report report;
    double start = hb_clock_now(), scale = t->scaler.scale;
    hb_timeline_step(t->timeline, t->attempted + 1);
    hb_timeline_begin(t->timeline);
    bool literal = c->loss_scale.preset == HB_SCALER_ARTICLE_LITERAL; /* its first look is at all of them */
    HB_TRY(hb_batches_fill(&t->batches, t->train, t->attempted, literal ? NULL : t->wanted));
    hb_fault_step(t->attempted + 1);
    HB_TRY(step(t, &report));
    hb_timeline_end(t->timeline, HB_SPAN_OTHER, "step");
    *seconds = hb_clock_now() - start;
    t->attempted++;
    t->tokens += report.tokens;
    t->loss = report.loss;
    if (report.bytes[HB_FOOTPRINT_ACTIVATIONS] > t->activation_bytes)
        t->activation_bytes = report.bytes[HB_FOOTPRINT_ACTIVATIONS];
    if (report.digest[0])
        memcpy(t->digest, report.digest, sizeof t->digest);
    bool last = t->attempted == c->steps;
    bool evaluated = t->held_out && (last || due(t->attempted, c->evaluate_every));
    if (evaluated)
        HB_TRY(evaluate(t));
    struct hb_metrics_line line = {
        .step = t->attempted,
        .tokens = t->tokens,
        .report = &report,
        .loss_scale = scale,
        .tokens_per_second = (double)report.tokens / *seconds,
        .evaluated = evaluated,
        .held_out_loss = t->held_out_loss,
    };
    HB_TRY(write_lines(t, &line));
    if (t->chief && (report.verdict.skipped || report.verdict.nonfinite))
        hb_log(HB_LOG_WARNING, "step %lld: %s; the update was %s", (long long)t->attempted,
               report.verdict.nonfinite ? "a gradient is not finite" : "loss or gradient norm is a spike",
               report.verdict.skipped ? "skipped" : "applied all the same");
    return last || due(t->attempted, c->checkpoint_every) ? save(t) : HB_OK;
}

/* A signal may reach ranks at different times: they stop after the same step. */
static hb_status wants_stop(const struct hb_trainer *t, const volatile sig_atomic_t *stop, bool *enough)
{
    int64_t any = *stop;
    if (t->config->world)
        HB_TRY(hb_comm_max(t->config->world, &any, 1));
    *enough = any != 0;
    return HB_OK;
}

static hb_status run(struct hb_trainer *t, const volatile sig_atomic_t *stop)
{
    const struct hb_run_config *c = t->config;
    double begin = hb_clock_now(), smooth = 0; /* seconds a step, smoothed */
    int64_t first = t->attempted;
    while (t->attempted < c->steps) {
        double seconds;
        bool enough;
        HB_TRY(wants_stop(t, stop, &enough));
        if (enough)
            break;
        int64_t step = t->attempted + 1;
        hb_status status = advance(t, &seconds);
        if (status != HB_OK) {
            hb_progress_end();
            return hb_fail_in(status, "step %lld", (long long)step);
        }
        smooth = smooth == 0 ? seconds : 0.9 * smooth + 0.1 * seconds;
        double mean = (hb_clock_now() - begin) / (double)(t->attempted - first);
        double tokens = (double)(c->accumulate * c->microbatch * c->sequence_length);
        if (t->chief)
            show_progress(t, tokens / smooth, mean * (double)(c->steps - t->attempted));
    }
    hb_progress_end();
    HB_TRY(save(t));
    return close_timeline(t);
}

hb_status hb_trainer_run(struct hb_trainer *t, const volatile sig_atomic_t *stop)
{
    return together(t, run(t, stop));
}
