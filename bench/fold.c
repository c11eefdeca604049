/* What one rank pays for what several need: the fold of gradients, and the way through the executor with
 * shards of everything.
 *
 *   bench/fold.bench [THREADS]
 *
 * With one microbatch: a step as one rank makes it, the part of it that is the fold's, and the same step by
 * the executor at ZeRO level 3. With eight, of so few tokens that the fold can be seen: what a microbatch
 * costs more than one that is alone in its step (without the optimizer, which both have once), beside one
 * pass over as many numbers as there are gradients, which reads and writes each. In turns; medians. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "cpu/select.h"
#include "ops/clock.h"
#include "train/step.h"

enum { MOST = 8, TOKENS = 1024, FEW = 64, SEQUENCE = 64, TURNS = 15, MANY_TURNS = 41 };

/* dense-small of `hornbook bench`. */
static const struct hb_model_config config = {
    .vocab_size = 4096, .hidden_size = 384, .num_hidden_layers = 6, .num_attention_heads = 6,
    .num_key_value_heads = 6, .head_dim = 64, .intermediate_size = 1024, .max_position_embeddings = 4096,
    .rms_norm_eps = 1e-6, .rope_theta = 10000, .initializer_range = 0.02};
static const struct hb_optimizer_config training = {
    .schedule = {3e-4, 0.05, 0.1, 1000}, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1,
    .clip = 1};

static struct hb_context context;
static struct hb_comm *world;

static void must(hb_status status)
{
    if (status != HB_OK) {
        fprintf(stderr, "bench-fold: %s\n", hb_error());
        exit(1);
    }
}

/* A model in training; `ranks` only by the executor. */
struct trained {
    struct hb_model *model;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
    struct hb_ranks ranks;
};

static void open_alone(struct trained *t)
{
    must(hb_model_create(&context, &config, SEQUENCE, true, &t->model));
    must(hb_model_initialise(t->model, 1));
    must(hb_optimizer_init(&t->optimizer, t->model, &training));
    must(hb_stepper_init(&t->stepper, t->model, &t->optimizer, MOST, TOKENS));
}

static void open_ranks(struct trained *t)
{
    const struct hb_ranks_options options = {.shape = {1, 1, 1}, .zero = 3, .schedule = "1f1b",
                                             .microbatches = 1, .sequences = TOKENS / SEQUENCE,
                                             .length = SEQUENCE};
    must(hb_ranks_open(&t->ranks, world, &options, &config));
    must(hb_model_outline(&context, &config, &t->ranks.part, &t->model));
    must(hb_ranks_attach(&t->ranks, t->model));
    must(hb_model_allocate(t->model, SEQUENCE, true));
    must(hb_model_initialise(t->model, 1));
    must(hb_optimizer_init_ranks(&t->optimizer, t->model, &t->ranks.mesh, &training));
    must(hb_ranks_start(&t->ranks, TOKENS));
    must(hb_stepper_init_ranks(&t->stepper, &t->ranks, &t->optimizer));
}

static void close_it(struct trained *t)
{
    hb_stepper_release(&t->stepper);
    hb_optimizer_release(&t->optimizer);
    hb_ranks_close(&t->ranks);
    hb_model_destroy(t->model);
}

static int32_t ids[MOST * TOKENS + 1], segments[TOKENS / SEQUENCE + 1];

static double seconds_of(const struct hb_op_clock *clock, const char *op)
{
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && clock->slots[i].name; i++)
        if (strcmp(clock->slots[i].name, op) == 0)
            return clock->slots[i].seconds;
    return 0;
}

/* Seconds of a step of M microbatches: all, and in the ops of the fold and of the optimizer. */
struct taken {
    double all, fold, optimizer;
};

static struct taken step(struct trained *t, int64_t M, int64_t tokens)
{
    struct hb_batch batches[MOST];
    struct hb_step_report report;
    struct hb_op_clock clock = {0};
    for (int64_t m = 0; m < M; m++)
        batches[m] = (struct hb_batch){tokens, ids + m * tokens, ids + m * tokens + 1, segments,
                                       tokens / SEQUENCE};
    context.clock = &clock;
    double start = hb_clock_now();
    must(hb_step(&t->stepper, batches, M, 1, true, &report));
    struct taken taken = {hb_clock_now() - start,
                          seconds_of(&clock, "fold_merge") + seconds_of(&clock, "fold_close"),
                          seconds_of(&clock, "sum") + seconds_of(&clock, "clip") +
                              seconds_of(&clock, "adamw") + seconds_of(&clock, "digest")};
    context.clock = NULL;
    return taken;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static void one_microbatch(struct trained *alone, struct trained *ranks)
{
    double plain[TURNS], fold[TURNS], ratio[TURNS];
    for (int i = -1; i < TURNS; i++) { /* the first to warm up */
        struct taken a = step(alone, 1, TOKENS), b = step(ranks, 1, TOKENS);
        if (i < 0)
            continue;
        plain[i] = a.all;
        fold[i] = a.fold / a.all;
        ratio[i] = b.all / a.all;
    }
    printf("1 microbatch of %d tokens: a step of %.1f ms, of it the fold %.2f %%; by the executor at level 3 "
           "%.3f times that\n",
           TOKENS, 1e3 * median(plain, TURNS), 100 * median(fold, TURNS), median(ratio, TURNS));
}

static double pass(struct hb_tensor numbers)
{
    double start = hb_clock_now();
    must(hb_add(&context, &(struct hb_add_args){.a = numbers, .b = numbers, .out = numbers}));
    return hb_clock_now() - start;
}

static void eight_microbatches(struct trained *alone)
{
    struct hb_tensor numbers = hb_tensor_1d(&context, NULL, HB_F32, hb_model_parameter_count(alone->model));
    must(hb_alloc(&context, HB_MEMORY_GRADIENTS, hb_tensor_bytes(&numbers), &numbers.data));
    must(hb_zero(&context, numbers));
    double one[MANY_TURNS], more[MANY_TURNS], passes[MANY_TURNS], ratio[MANY_TURNS];
    for (int i = -1; i < MANY_TURNS; i++) {
        struct taken a = step(alone, 1, FEW), b = step(alone, MOST, FEW);
        double seconds = pass(numbers);
        if (i < 0)
            continue;
        one[i] = a.all - a.optimizer;
        more[i] = (b.all - b.optimizer) / MOST - one[i];
        passes[i] = seconds;
        ratio[i] = more[i] / seconds;
    }
    double bytes = (double)hb_tensor_bytes(&numbers), once = median(passes, MANY_TURNS);
    printf("8 microbatches of %d tokens: each %.2f ms beyond the %.2f ms of one alone; a pass over the "
           "gradients (%.0f MB, read and written) %.2f ms at %.0f GB/s; median of the ratios %.2f\n",
           FEW, 1e3 * median(more, MANY_TURNS), 1e3 * median(one, MANY_TURNS), 1e-6 * bytes, 1e3 * once,
           2e-9 * bytes / once, median(ratio, MANY_TURNS));
    hb_free(&context, numbers.data);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    if (argc > 2 || threads < 1) {
        fprintf(stderr, "usage: bench-fold [threads]\n");
        return 2;
    }
    const struct hb_backend *cpu;
    struct trained alone = {0}, ranks = {0};
    struct hb_random random = hb_random_stream(1, HB_PURPOSE_TEST, 0, 0);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        ids[i] = (int32_t)(hb_random_u64(&random, i) % (uint64_t)config.vocab_size);
    for (int i = 0; i <= TOKENS / SEQUENCE; i++)
        segments[i] = i * SEQUENCE;
    must(hb_cpu_select(&cpu));
    must(hb_context_open(cpu, HB_CANONICAL, threads, &context));
    must(hb_comm_self(&world));
    open_alone(&alone);
    open_ranks(&ranks);
    one_microbatch(&alone, &ranks);
    eight_microbatches(&alone);
    close_it(&alone);
    close_it(&ranks);
    hb_comm_destroy(world);
    hb_context_close(&context);
    return 0;
}
