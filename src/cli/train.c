#include "cli/train.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/options.h"
#include "core/log.h"
#include "core/math64.h"
#include "train/trainer.h"

static const char usage[] =
    "usage: hornbook train RUN.yaml [--resume] [--set KEY=VALUE]... [--trace [FROM:TO]]\n"
    "                      [--timeline]\n"
    "       mpiexec -n N hornbook train RUN.yaml --parallel dp=A,ep=B,pp=C [--zero LEVEL]\n"
    "\n"
    "Trains the model that RUN.yaml describes (docs/configuration.md) and writes\n"
    "metrics, checkpoints and a TensorBoard file into its run_folder. Ctrl-C saves\n"
    "a checkpoint and stops.\n"
    "\n"
    "  --resume          continue from the newest checkpoint of the run folder\n"
    "  --set KEY=VALUE   override a key of the file, e.g. --set training.steps=200\n"
    "  --parallel dp=A,ep=B,pp=C\n"
    "                    divide the work among N = A B C ranks: A B data ranks, whose experts\n"
    "                    B ranks share, C stages (docs/parallel.md); no bit depends on it\n"
    "  --zero LEVEL      share among data ranks 1: optimizer states, 2: gradients too,\n"
    "                    3: weights too; 0: nothing\n"
    "  --schedule NAME   of the pipeline: gpipe, 1f1b, interleaved, zb-h1, zb-v, or a file\n"
    "  --trace FROM:TO   write a digest of every tensor of every op in these steps to\n"
    "                    trace.jsonl in the run folder (of several ranks: each to its own\n"
    "                    file in trace), for hornbook diff; one number:\n"
    "                    that step; without numbers: all steps\n"
    "  --trace-values STEP:CALL\n"
    "                    keep the tensors of a call of that step, as the trace counts\n"
    "                    them, in trace-values; without CALL: of all (and that is much)\n"
    "  --timeline        write what every rank did and when (computing, messages, waiting)\n"
    "                    to timeline.json in the run folder, for ui.perfetto.dev\n"
    "  --help            this text\n";

static volatile sig_atomic_t stop;

/* The first signal asks for a stop after the step; the second one kills as usual. */
static void on_signal(int number)
{
    stop = 1;
    signal(number, SIG_DFL);
}

static void print_start(const struct hb_trainer *t)
{
    const struct hb_run_config *c = t->config;
    char parameters[64];
    snprintf(parameters, sizeof parameters, "%.2f M", 1e-6 * (double)hb_model_parameter_count(t->model));
    printf("run         %s\n", c->run_folder);
    printf("model       %s parameters, %.2f M active per token\n", parameters,
           1e-6 * (double)hb_model_active_parameter_count(t->model));
    printf("data        %" PRId64 " documents, %" PRId64 " tokens, %" PRId64 " samples of %" PRId64 "\n",
           hb_stream_documents(t->train), hb_stream_tokens(t->train), hb_stream_samples(t->train),
           c->sequence_length);
    printf("step        %" PRId64 " x %" PRId64 " x %" PRId64 " tokens (microbatches, sequences, length)\n",
           c->accumulate, c->microbatch, c->sequence_length);
    printf("backend     %s, %d threads, numerics %s version %d\n", t->context.backend->name,
           t->context.threads, t->context.numerics == HB_FAST ? "fast" : "canonical", HB_NUMERICS_VERSION);
    if (t->ranks.mesh.wire.on_device)
        printf("messages    NCCL, from device to device\n");
    else if (t->ranks.mesh.wire.why_host[0])
        printf("messages    MPI, through the host: %s\n", t->ranks.mesh.wire.why_host);
    if (t->resumed_from)
        printf("resumed     from step %" PRId64 "\n", t->resumed_from);
    printf("digest      %s\n", t->digest);
    fflush(stdout);
}

/* Where the ranks' time went, all of them added. */
static void print_timeline(const struct hb_trainer *t)
{
    double all = 0;
    for (int k = 0; k < HB_SPAN_KINDS; k++)
        all += k == HB_SPAN_MESSAGE ? 0 : t->timeline_totals.seconds[k];
    printf("timeline    %s/timeline.json:", t->config->run_folder);
    for (int k = 0; k < HB_SPAN_KINDS; k++)
        if (k != HB_SPAN_MESSAGE && t->timeline_totals.seconds[k] > 0)
            printf(" %s %.1f %%", hb_span_kind_name((enum hb_span_kind)k),
                   100 * t->timeline_totals.seconds[k] / all);
    printf("\n");
}

/* The resolved configuration says what --set and the layout's options said. */
static void print_continuation(const struct hb_trainer *t, const char *path, bool overridden)
{
    char launcher[48] = "";
    if (t->config->world && hb_comm_size(t->config->world) > 1)
        snprintf(launcher, sizeof launcher, "mpiexec -n %d ", hb_comm_size(t->config->world));
    if (overridden)
        hb_log(HB_LOG_INFO, "stopped; continue with: %shornbook train %s/config.yaml --resume", launcher,
               t->config->run_folder);
    else
        hb_log(HB_LOG_INFO, "stopped; continue with: %shornbook train %s --resume", launcher, path);
}

static void print_end(const struct hb_trainer *t, const char *path, bool overridden)
{
    const struct hb_run_config *c = t->config;
    printf("step        %" PRId64 " of %" PRId64 "\n", t->attempted, c->steps);
    if (isfinite(t->loss))
        printf("loss        %.6f\n", t->loss);
    if (isfinite(t->held_out_loss))
        printf("held-out    loss %.6f, perplexity %.4f\n", t->held_out_loss, hb_exp64(t->held_out_loss));
    printf("activations %.1f MB at most\n", 1e-6 * (double)t->activation_bytes);
    printf("digest      %s\n", t->digest);
    printf("checkpoint  %s/checkpoints/step-%08" PRId64 "\n", c->run_folder, t->saved_at);
    if (t->timeline_totals.spans)
        print_timeline(t);
    if (t->attempted < c->steps)
        print_continuation(t, path, overridden);
}

/* The values' step is traced in any case. */
static struct hb_trace_request trace_request(const struct hb_option_range *trace,
                                             const struct hb_option_range *values)
{
    struct hb_trace_request request = {
        .values_step = values->given ? values->first : -1, .values_call = values->second, .from = 1,
        .to = INT64_MAX};
    if (trace->first >= 0) {
        request.from = trace->first;
        request.to = trace->second >= 0 ? trace->second : trace->first;
    } else if (!trace->given) {
        request.from = request.to = values->first;
    }
    return request;
}

/* What the layout's options say, as overrides of keys. */
struct layout_options {
    const char *parallel, *schedule;
    int64_t zero; /* -1: not given */
    char text[5][PATH_MAX + 32]; /* what they mean, as --set */
};

static hb_status add_layout(struct layout_options *o, struct hb_option_list *overrides)
{
    int n = 0;
    struct hb_mesh_shape shape;
    if (overrides->count + 5 > (int)(sizeof overrides->items / sizeof overrides->items[0]))
        return HB_FAIL(HB_EARGUMENT, "too many --set");
    if (o->parallel) {
        HB_TRY(hb_mesh_parse(o->parallel, &shape));
        snprintf(o->text[n++], sizeof o->text[0], "parallel.dp=%" PRId64, shape.dp);
        snprintf(o->text[n++], sizeof o->text[0], "parallel.ep=%" PRId64, shape.ep);
        snprintf(o->text[n++], sizeof o->text[0], "parallel.pp=%" PRId64, shape.pp);
    }
    if (o->zero >= 0)
        snprintf(o->text[n++], sizeof o->text[0], "parallel.zero=%" PRId64, o->zero);
    if (o->schedule && strlen(o->schedule) >= PATH_MAX)
        return HB_FAIL(HB_EARGUMENT, "--schedule: a path of %zu characters is too long", strlen(o->schedule));
    if (o->schedule)
        snprintf(o->text[n++], sizeof o->text[0], "parallel.schedule=%s", o->schedule);
    for (int i = 0; i < n; i++)
        overrides->items[overrides->count++] = o->text[i];
    return HB_OK;
}

struct wishes {
    bool resume, timeline;
    bool overridden; /* the file alone does not say what runs */
    const struct hb_trace_request *trace; /* NULL: none */
};

static hb_status train(const char *path, struct hb_run_config *config, const struct wishes *wishes)
{
    struct hb_trainer *trainer;
    HB_TRY(hb_trainer_create(config, wishes->resume, &trainer));
    hb_status status = wishes->trace ? hb_trainer_trace(trainer, wishes->trace) : HB_OK;
    if (status == HB_OK && wishes->timeline)
        status = hb_trainer_timeline(trainer);
    if (status == HB_OK) {
        if (trainer->chief)
            print_start(trainer);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        status = hb_trainer_run(trainer, &stop);
    }
    if (status == HB_OK && trainer->chief)
        print_end(trainer, path, wishes->overridden);
    hb_trainer_destroy(trainer);
    return status;
}

/* All ranks end well or none: one of them says what happened. If some do not even answer, all are ended once
 * it has been said: the others wait for that end, and make it only if it does not come. The one that spoke
 * waits, too: what a launcher has not read yet when a job is aborted, it may lose. */
static int finish(struct hb_comm *world, hb_status status)
{
    if (status == HB_OK)
        status = hb_comm_agree(world, HB_OK);
    status = hb_comm_fail(world, status);
    bool speaks = hb_comm_speaks(), whole = hb_comm_is_whole();
    int code = status == HB_OK || speaks ? hb_finish("train", status) : HB_CLI_FAILED;
    if (!whole) {
        nanosleep(&(struct timespec){.tv_sec = speaks ? 1 : 10}, NULL);
        hb_comm_abort(world, code);
    }
    hb_comm_destroy(world);
    return code;
}

int hb_cli_train(int argc, char **argv)
{
    struct wishes wishes = {.resume = false};
    struct hb_option_range trace = {.first = -1}, values = {.first = -1, .second = -1};
    struct hb_option_list overrides = {.count = 0};
    struct layout_options layout = {.zero = -1};
    const struct hb_option options[] = {
        {"--resume", HB_OPTION_FLAG, &wishes.resume, 0, 0},
        {"--set", HB_OPTION_LIST, &overrides, 0, 0},
        {"--trace", HB_OPTION_RANGE, &trace, 0, 0},
        {"--trace-values", HB_OPTION_RANGE, &values, 0, 0},
        {"--parallel", HB_OPTION_TEXT, &layout.parallel, 0, 0},
        {"--zero", HB_OPTION_INT, &layout.zero, 0, 3},
        {"--schedule", HB_OPTION_TEXT, &layout.schedule, 0, 0},
        {"--timeline", HB_OPTION_FLAG, &wishes.timeline, 0, 0},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, 8, usage, &rest, &code))
        return code;
    if (rest != 1)
        return hb_wrong_usage("train",
                              rest ? "only one configuration, please" : "the configuration is missing");
    if (values.given && values.first < 0)
        return hb_wrong_usage("train", "--trace-values needs a step");
    struct hb_trace_request request = trace_request(&trace, &values);
    if (values.given && (values.first < request.from || values.first > request.to))
        return hb_wrong_usage("train", "the step of --trace-values must be among those of --trace");
    /* Ctrl-C ends a 'tee' that reads us as well: what is said is lost then, what was learned must not be. */
    signal(SIGPIPE, SIG_IGN);
    struct hb_run_config config;
    struct hb_comm *world;
    hb_status status = hb_comm_world(&world);
    if (status != HB_OK)
        return hb_finish("train", status);
    status = add_layout(&layout, &overrides);
    if (status == HB_OK)
        status = hb_run_config_load(argv[1], overrides.items, overrides.count, &config);
    if (status != HB_OK)
        return finish(world, status);
    config.world = world;
    wishes.overridden = overrides.count > 0;
    wishes.trace = trace.given || values.given ? &request : NULL;
    status = train(argv[1], &config, &wishes);
    hb_run_config_release(&config);
    return finish(world, status);
}
