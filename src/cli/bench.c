#include "cli/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "core/philox.h"
#include "cpu/select.h"
#include "ops/clock.h"
#include "ops/peak.h"
#include "train/step.h"

static const char usage[] =
    "usage: hornbook bench [--model NAME] [option...]\n"
    "\n"
    "Times whole training steps of a known model on random tokens: tokens a second,\n"
    "GFLOP/s, share of the processor's FMA peak measured in the same run (of a device:\n"
    "the one it states), memory by category, and of every op the time, GFLOP/s and GB/s\n"
    "with their shares of the peak. Ops of a device are timed in steps of their own. Of\n"
    "the host also how long a cache line takes from the first thread to the last: times\n"
    "depend on whether the two have a cache in common.\n"
    "\n"
    "  --model NAME      dense-small, dense-162m, moe-16, moe-64, and for devices dense-1b\n"
    "                    (default dense-small)\n"
    "  --steps N         timed steps after two for warming up (default 5)\n"
    "  --accumulate N    microbatches a step (default 1)\n"
    "  --backend NAME    (default cpu)\n"
    "  --threads N       0: all processors (default 0)\n"
    "  --fast            numerics: fast (products by OpenBLAS; of a device by cuBLAS)\n"
    "  --recompute WHAT  none, selective, full, or a number k: decoders 0, k, 2 k, ...\n"
    "                    (default none)\n"
    "  --precision NAME  fp32, bf16, fp16, mixed (default fp32)\n"
    "  --no-digest       without the digest of the parameters\n"
    "  --help            this text\n";

/* The models that the peers' figures in docs/performance.md are about. */
struct subject {
    const char *name;
    struct hb_model_config config;
    int64_t sequences, length;
};

#define COMMON .rms_norm_eps = 1e-6, .rope_theta = 10000, .initializer_range = 0.02, .head_dim = 64,       \
    .max_position_embeddings = 4096, .decoder_sparse_step = 1, .norm_topk_prob = true,                     \
    .balance = HB_BALANCE_HF, .router_aux_loss_coef = 0.001
#define SMALL .vocab_size = 4096, .hidden_size = 384, .num_hidden_layers = 6, .num_attention_heads = 6, \
    .num_key_value_heads = 6

static const struct subject subjects[] = {
    {"dense-small", {COMMON, SMALL, .intermediate_size = 1024}, 4, 256},
    {"dense-162m",
     {COMMON, .vocab_size = 50304, .hidden_size = 768, .num_hidden_layers = 12, .num_attention_heads = 12,
      .num_key_value_heads = 12, .intermediate_size = 2048},
     4, 64},
    {"moe-16", {COMMON, SMALL, .num_experts = 16, .num_experts_per_tok = 2,
                .moe_intermediate_size = 512}, 4, 256},
    {"moe-64", {COMMON, SMALL, .num_experts = 64, .num_experts_per_tok = 8,
                .moe_intermediate_size = 128}, 4, 256},
    {"dense-1b",
     {COMMON, .vocab_size = 50304, .hidden_size = 2048, .num_hidden_layers = 18, .num_attention_heads = 32,
      .num_key_value_heads = 8, .intermediate_size = 6144},
     4, 2048},
};
enum { SUBJECTS = sizeof subjects / sizeof subjects[0] };

struct request {
    const char *model, *backend, *recompute, *precision;
    int64_t steps, accumulate, threads;
    bool fast, no_digest;
    struct hb_recompute policy;
    struct hb_precision storage;
};

/* Multiply-adds count 2: 6 per active weight of a product and token (the
 * embedding is a look-up), and causal attention at half the square. */
static double step_flops(const struct hb_model *model, const struct subject *s, int64_t accumulate)
{
    const struct hb_model_config *c = &s->config;
    double tokens = (double)(accumulate * s->sequences * s->length);
    double weights = (double)(hb_model_active_parameter_count(model) - c->vocab_size * c->hidden_size);
    double attention = (double)(c->num_hidden_layers * c->num_attention_heads * c->head_dim * s->length);
    return 6 * (weights + attention) * tokens;
}

struct tokens {
    int32_t *ids, *labels, *segments;
    struct hb_batch *batches;
};

static hb_status make_tokens(const struct subject *s, int64_t accumulate, struct tokens *t)
{
    int64_t n = s->sequences * s->length;
    t->ids = malloc((size_t)(n * accumulate + 1) * sizeof *t->ids);
    t->segments = malloc((size_t)(s->sequences + 1) * sizeof *t->segments);
    t->batches = calloc((size_t)accumulate, sizeof *t->batches);
    if (!t->ids || !t->segments || !t->batches)
        return HB_FAIL(HB_EMEMORY, "out of memory for the tokens");
    struct hb_random random = hb_random_stream(1, HB_PURPOSE_TEST, 0, 0);
    for (int64_t i = 0; i <= n * accumulate; i++)
        t->ids[i] = (int32_t)(hb_random_u64(&random, (uint64_t)i) % (uint64_t)s->config.vocab_size);
    for (int64_t i = 0; i <= s->sequences; i++)
        t->segments[i] = (int32_t)(i * s->length);
    for (int64_t m = 0; m < accumulate; m++)
        t->batches[m] = (struct hb_batch){.tokens = n,
                                          .ids = t->ids + m * n,
                                          .labels = t->ids + m * n + 1,
                                          .segments = t->segments,
                                          .segment_count = s->sequences};
    return HB_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int by_seconds(const void *a, const void *b)
{
    double x = ((const struct hb_op_clock_slot *)a)->seconds,
           y = ((const struct hb_op_clock_slot *)b)->seconds;
    return x > y ? -1 : x < y;
}

/* A rate in units of 1e9, and its share of `peak` if that is known. */
static void print_rate(double amount, double seconds, double peak)
{
    if (!(amount > 0))
        printf(" %9s %7s", "", "");
    else if (!(peak > 0))
        printf(" %9.1f %7s", 1e-9 * amount / seconds, "");
    else
        printf(" %9.1f %6.1f%%", 1e-9 * amount / seconds, 100 * amount / seconds / peak);
}

/* An op with FLOPs is held against the FMA peak, every op against the memory's
 * bandwidth where the device states one. */
static void print_ops(struct hb_op_clock *clock, int64_t steps, double total, const struct hb_limits *peak)
{
    double sum = 0;
    qsort(clock->slots, HB_OP_CLOCK_SLOTS, sizeof clock->slots[0], by_seconds);
    printf("\n%-26s %9s %11s %7s %9s %7s %9s %7s\n", "op", "calls", "ms/step", "share", "GFLOP/s", "of peak",
           "GB/s", peak->bytes > 0 ? "of peak" : "");
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && clock->slots[i].name; i++) {
        const struct hb_op_clock_slot *slot = &clock->slots[i];
        sum += slot->seconds;
        printf("%-26s %9.0f %11.3f %6.1f%%", slot->name, (double)slot->calls / (double)steps,
               1e3 * slot->seconds / (double)steps, 100 * slot->seconds / total);
        print_rate(slot->flops, slot->seconds, peak->flops);
        print_rate(slot->bytes, slot->seconds, peak->bytes);
        printf("\n");
    }
    printf("%-26s %9s %11.3f %6.1f%%\n", "(between ops)", "", 1e3 * (total - sum) / (double)steps,
           100 * (total - sum) / total);
}

/* none, selective, full or a number. */
static bool read_recompute(const char *text, struct hb_recompute *recompute)
{
    static const char *const words[] = {
        [HB_RECOMPUTE_NONE] = "none", [HB_RECOMPUTE_SELECTIVE] = "selective", [HB_RECOMPUTE_FULL] = "full"};
    char *end;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i] && strcmp(text, words[i]) == 0) {
            *recompute = (struct hb_recompute){.kind = (enum hb_recompute_kind)i};
            return true;
        }
    *recompute = (struct hb_recompute){.kind = HB_RECOMPUTE_EVERY, .every = strtoll(text, &end, 10)};
    return end != text && !*end && recompute->every >= 1;
}

static void print_memory(int64_t parameters, int64_t activations)
{
    int64_t total = 0;
    printf("\n%-26s %12s\n", "memory", "peak MB");
    for (int c = 0; c < HB_MEMORY_CATEGORY_COUNT; c++) {
        int64_t bytes = hb_memory_peak((enum hb_memory_category)c);
        total += bytes;
        printf("%-26s %12.1f\n", hb_memory_category_name((enum hb_memory_category)c), 1e-6 * (double)bytes);
    }
    printf("%-26s %12.1f\n", "sum", 1e-6 * (double)total);
    printf("%-26s %12.1f\n", "beyond 16 B a parameter", 1e-6 * (double)(total - 16 * parameters));
    printf("%-26s %12.1f\n", "activations in use", 1e-6 * (double)activations);
}

/* The instruction-set level, of a cpu backend. */
static const char *level_of(const struct hb_backend *backend)
{
    const struct hb_cpu_level *levels;
    int count = hb_cpu_levels(&levels);
    for (int i = 0; i < count; i++)
        if (levels[i].backend == backend)
            return levels[i].name;
    return "scalar";
}

/* `steps` after WARM_UP more; times, and their sum. */
static hb_status run_steps(const struct request *r, struct hb_context *context, struct hb_stepper *stepper,
                           const struct tokens *tokens, struct hb_op_clock *clock, double *times,
                           double *total, int64_t *activations)
{
    enum { WARM_UP = 2 };
    *total = 0;
    for (int64_t i = -WARM_UP; i < r->steps; i++) {
        struct hb_step_report report;
        context->clock = i < 0 ? NULL : clock;
        double start = hb_clock_now();
        HB_TRY(hb_step(stepper, tokens->batches, r->accumulate, 1, !r->no_digest, &report));
        if (i < 0)
            continue;
        times[i] = hb_clock_now() - start;
        *total += times[i];
        *activations = report.bytes[HB_FOOTPRINT_ACTIVATIONS];
    }
    context->clock = NULL;
    return HB_OK;
}

/* What the steps are held against: of a device what it states, of the host what is measured. */
static hb_status find_peak(struct hb_context *context, struct hb_limits *peak)
{
    struct hb_limits now = {0};
    if (context->backend->limits)
        return context->backend->limits(context, peak);
    now.flops = 1e9 * hb_peak_gflops(context->threads);
    if (now.flops > peak->flops)
        *peak = now;
    return HB_OK;
}

static hb_status time_steps(const struct request *r, const struct subject *s, struct hb_context *context,
                            struct hb_model *model, struct hb_stepper *stepper, const struct tokens *tokens)
{
    enum { MOST = 1000 };
    static double times[MOST], ignored[MOST];
    bool device = context->backend->limits;
    struct hb_op_clock clock = {.waits = device};
    struct hb_limits peak = {0};
    int64_t activations = 0;
    double total, flops = step_flops(model, s, r->accumulate);
    double handover = device ? 0 : hb_handover_ns(context->threads);
    HB_TRY(find_peak(context, &peak));
    HB_TRY(run_steps(r, context, stepper, tokens, device ? NULL : &clock, times, &total, &activations));
    HB_TRY(find_peak(context, &peak));
    if (device) /* ops that wait for their end make a slower step */
        HB_TRY(run_steps(r, context, stepper, tokens, &clock, ignored, &total, &activations));
    qsort(times, (size_t)r->steps, sizeof times[0], by_value);
    double median = times[r->steps / 2], rate = flops / median;
    printf("model      %s, %.2f M parameters, %.2f M active\n", s->name,
           1e-6 * (double)hb_model_parameter_count(model),
           1e-6 * (double)hb_model_active_parameter_count(model));
    if (device)
        printf("backend    %s (%s), numerics %s\n", context->backend->name, peak.device,
               r->fast ? "fast" : "canonical");
    else
        printf("backend    %s (%s), %d threads, numerics %s\n", context->backend->name,
               level_of(context->backend), context->threads, r->fast ? "fast" : "canonical");
    if (handover > 0)
        printf("handover   %.0f ns for a cache line, thread to thread, before the steps, %.0f after\n",
               handover, hb_handover_ns(context->threads));
    printf("step       median %.1f ms, best %.1f, worst %.1f of %" PRId64 "\n", 1e3 * median, 1e3 * times[0],
           1e3 * times[r->steps - 1], r->steps);
    printf("speed      %.0f tokens/s, %.1f GFLOP/s",
           (double)(r->accumulate * s->sequences * s->length) / median, 1e-9 * rate);
    if (peak.flops > 0)
        printf(", %.1f %% of the FMA peak of %.0f GFLOP/s", 100 * rate / peak.flops, 1e-9 * peak.flops);
    printf("\n");
    print_ops(&clock, r->steps, total, &peak);
    print_memory(hb_model_parameter_count(model), activations);
    return HB_OK;
}

static hb_status bench(const struct request *r, const struct subject *s)
{
    const struct hb_backend *backend;
    struct hb_context context = {0};
    struct hb_model *model = NULL;
    struct hb_optimizer optimizer = {0};
    struct hb_stepper stepper = {0};
    struct tokens tokens = {0};
    struct hb_optimizer_config training = {.schedule = {3e-4, 0.05, 0.1, 1000},
                                           .beta1 = 0.9,
                                           .beta2 = 0.95,
                                           .eps = 1e-8,
                                           .weight_decay = 0.1,
                                           .clip = 1};
    char digest[HB_DIGEST_TEXT + 1];
    hb_status status;
    HB_TRY(hb_backend_find(r->backend, &backend));
    HB_TRY_CLEAN(hb_context_open(backend, r->fast ? HB_FAST : HB_CANONICAL, (int)r->threads, &context));
    struct hb_model_config config = s->config;
    config.precision = r->storage;
    HB_TRY_CLEAN(hb_model_create(&context, &config, s->length, true, &model));
    model->recompute = r->policy;
    HB_TRY_CLEAN(hb_model_initialise(model, 1));
    HB_TRY_CLEAN(hb_optimizer_init(&optimizer, model, &training));
    HB_TRY_CLEAN(hb_optimizer_digest(&optimizer, true, digest));
    HB_TRY_CLEAN(hb_stepper_init(&stepper, model, &optimizer, r->accumulate, s->sequences * s->length));
    HB_TRY_CLEAN(make_tokens(s, r->accumulate, &tokens));
    HB_TRY_CLEAN(time_steps(r, s, &context, model, &stepper, &tokens));
cleanup:
    free(tokens.ids);
    free(tokens.segments);
    free(tokens.batches);
    hb_stepper_release(&stepper);
    hb_optimizer_release(&optimizer);
    hb_model_destroy(model);
    hb_context_close(&context);
    return status;
}

int hb_cli_bench(int argc, char **argv)
{
    struct request r = {.model = "dense-small", .backend = "cpu", .recompute = "none", .precision = "fp32",
                        .steps = 5,
                        .accumulate = 1};
    const struct hb_option options[] = {
        {"--model", HB_OPTION_TEXT, &r.model, 0, 0},
        {"--steps", HB_OPTION_INT, &r.steps, 1, 1000},
        {"--accumulate", HB_OPTION_INT, &r.accumulate, 1, 1024},
        {"--backend", HB_OPTION_TEXT, &r.backend, 0, 0},
        {"--threads", HB_OPTION_INT, &r.threads, 0, 4096},
        {"--fast", HB_OPTION_FLAG, &r.fast, 0, 0},
        {"--recompute", HB_OPTION_TEXT, &r.recompute, 0, 0},
        {"--precision", HB_OPTION_TEXT, &r.precision, 0, 0},
        {"--no-digest", HB_OPTION_FLAG, &r.no_digest, 0, 0},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, sizeof options / sizeof options[0], usage, &rest, &code))
        return code;
    if (rest)
        return hb_wrong_usage("bench", "unexpected argument '%s'", argv[1]);
    if (!read_recompute(r.recompute, &r.policy))
        return hb_wrong_usage("bench",
                              "--recompute must be none, selective, full or a number from 1, got '%s'",
                              r.recompute);
    if (hb_precision_preset(r.precision, &r.storage) != HB_OK)
        return hb_wrong_usage("bench", "--precision %s", hb_error());
    for (int i = 0; i < SUBJECTS; i++)
        if (strcmp(subjects[i].name, r.model) == 0)
            return hb_finish("bench", bench(&r, &subjects[i]));
    return hb_wrong_usage("bench",
                          "unknown model '%s'; there are dense-small, dense-162m, moe-16, moe-64, "
                          "dense-1b",
                          r.model);
}
