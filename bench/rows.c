/* Speed of the ops that go over rows: nanoseconds per element and GB/s (bytes
 * as the ops' headers count them), on 1 thread and on N, beside a plain copy.
 *
 *   bench-rows [N]      threads of the second pair of columns, 2 unless told
 *
 * The best of several calls counts: on a shared machine every disturbance only
 * adds time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/select.h"
#include "ops/clock.h"

/* Heads of 64, 8 of 64 experts a token; BIG is the largest n x width below. */
enum { CALLS = 15, D = 64, K = 8, E = 64, BIG = 256 * 50304, TOKENS = 65536 };

static struct {
    float *a, *b, *c, *d, *e; /* BIG numbers each */
    float *line;              /* TOKENS: weights, statistics, a bias */
    int32_t *ids, *zeros;     /* TOKENS: below 50304; 0 */
    int32_t *chosen, *row_of, *pair_of, *offsets;
    void *scalars; /* a few numbers of any type */
} data;

static struct hb_context *context;

static void must(hb_status status)
{
    if (status != HB_OK) {
        fprintf(stderr, "bench-rows: %s\n", hb_error());
        exit(1);
    }
}

static void *memory(size_t bytes)
{
    void *out;
    must(hb_alloc(context, HB_MEMORY_ACTIVATIONS, bytes, &out));
    memset(out, 0, bytes);
    return out;
}

/* In (0, 1], so that nothing overflows and every root exists. */
static void fill(float *x, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)((state >> 8) + 1) / (float)(1 << 24);
    }
}

static float *numbers(int64_t n)
{
    float *x = memory((size_t)n * sizeof *x);
    fill(x, n);
    return x;
}

static void prepare(void)
{
    data.a = numbers(BIG);
    data.b = numbers(BIG);
    data.c = numbers(BIG);
    data.d = numbers(BIG);
    data.e = numbers(BIG);
    data.line = numbers(TOKENS);
    data.ids = memory(TOKENS * sizeof(int32_t));
    data.zeros = memory(TOKENS * sizeof(int32_t));
    data.chosen = memory(TOKENS * sizeof(int32_t));
    data.row_of = memory(TOKENS * sizeof(int32_t));
    data.pair_of = memory(TOKENS * sizeof(int32_t));
    data.offsets = memory((E + 1) * sizeof(int32_t));
    data.scalars = memory(E * sizeof(int64_t));
    uint32_t state = 7;
    for (int64_t t = 0; t < TOKENS; t++) {
        state = state * 1664525u + 1013904223u;
        data.ids[t] = (int32_t)((state >> 8) % 50304);
        data.chosen[t] = (int32_t)((t * 11 + t / E) % E);
    }
}

static struct hb_tensor line(void *memory_of, enum hb_dtype dtype, int64_t n)
{
    return hb_tensor_1d(context, memory_of, dtype, n);
}

static struct hb_tensor matrix(float *x, int64_t n, int64_t width)
{
    return hb_tensor_2d(context, x, HB_F32, n, width);
}

static struct hb_tensor pairs(void *memory_of, enum hb_dtype dtype, int64_t n)
{
    return hb_tensor_2d(context, memory_of, dtype, n / K, K);
}

static void copy(int64_t n, int64_t width)
{
#pragma omp parallel for num_threads(context->threads) schedule(static)
    for (int64_t t = 0; t < n; t++)
        memcpy(data.b + t * width, data.a + t * width, (size_t)width * sizeof(float));
}

static void rmsnorm_forward(int64_t n, int64_t width)
{
    must(hb_rmsnorm_forward(context,
                            &(struct hb_rmsnorm_forward_args){.x = matrix(data.a, n, width),
                                                              .weight = line(data.line, HB_F32, width),
                                                              .y = matrix(data.b, n, width),
                                                              .rstd = line(data.e, HB_F32, n),
                                                              .eps = 1e-6f}));
}

static void rmsnorm_backward_input(int64_t n, int64_t width)
{
    must(hb_rmsnorm_backward_input(
        context, &(struct hb_rmsnorm_backward_input_args){.x = matrix(data.a, n, width),
                                                          .weight = line(data.line, HB_F32, width),
                                                          .rstd = line(data.e, HB_F32, n),
                                                          .dy = matrix(data.b, n, width),
                                                          .dx = matrix(data.c, n, width)}));
}

static void rmsnorm_backward_weight(int64_t n, int64_t width)
{
    must(hb_rmsnorm_backward_weight(
        context, &(struct hb_rmsnorm_backward_weight_args){.x = matrix(data.a, n, width),
                                                           .rstd = line(data.e, HB_F32, n),
                                                           .dy = matrix(data.b, n, width),
                                                           .dweight = line(data.d, HB_F32, width),
                                                           .epilogue = HB_STORE}));
}

static void rope_over(float *y, int64_t n, int64_t width)
{
    must(hb_rope(context, &(struct hb_rope_args){.x = hb_tensor_3d(context, data.a, HB_F32, n, width / D, D),
                                                 .positions = line(data.zeros, HB_I32, n),
                                                 .cosine = matrix(data.d, 1, D / 2),
                                                 .sine = matrix(data.e, 1, D / 2),
                                                 .y = hb_tensor_3d(context, y, HB_F32, n, width / D, D)}));
}

static void rope(int64_t n, int64_t width)
{
    rope_over(data.b, n, width);
}

static void rope_in_place(int64_t n, int64_t width)
{
    rope_over(data.a, n, width);
}

static void swiglu_forward(int64_t n, int64_t width)
{
    must(hb_swiglu_forward(context, &(struct hb_swiglu_forward_args){.gate = matrix(data.a, n, width),
                                                                     .up = matrix(data.b, n, width),
                                                                     .out = matrix(data.c, n, width)}));
}

static void swiglu_backward(int64_t n, int64_t width)
{
    must(hb_swiglu_backward(context, &(struct hb_swiglu_backward_args){.gate = matrix(data.a, n, width),
                                                                       .up = matrix(data.b, n, width),
                                                                       .dout = matrix(data.c, n, width),
                                                                       .dgate = matrix(data.d, n, width),
                                                                       .dup = matrix(data.e, n, width)}));
}

static void add(int64_t n, int64_t width)
{
    must(hb_add(context, &(struct hb_add_args){.a = matrix(data.a, n, width),
                                               .b = matrix(data.b, n, width),
                                               .out = matrix(data.c, n, width)}));
}

static void loss_of(bool gradient, int64_t n, int64_t width)
{
    must(hb_cross_entropy(context, &(struct hb_cross_entropy_args){.logits = matrix(data.a, n, width),
                                                                   .labels = line(data.zeros, HB_I32, n),
                                                                   .loss = line(data.e, HB_F32, n),
                                                                   .gradient = gradient,
                                                                   .factor = 1.0f}));
}

static void cross_entropy(int64_t n, int64_t width)
{
    loss_of(false, n, width);
}

static void cross_entropy_gradient(int64_t n, int64_t width)
{
    loss_of(true, n, width);
}

static void embedding_forward(int64_t n, int64_t width)
{
    must(hb_embedding_forward(
        context, &(struct hb_embedding_forward_args){.weight = matrix(data.a, BIG / width, width),
                                                     .ids = line(data.chosen, HB_I32, n),
                                                     .out = matrix(data.b, n, width)}));
}

static void embedding_backward(int64_t n, int64_t width)
{
    int64_t vocabulary = BIG / width < 50304 ? BIG / width : 50304;
    for (int64_t t = 0; t < n; t++) /* half of the tokens are frequent ones */
        data.row_of[t] = t % 2 ? data.chosen[t] : (int32_t)(data.ids[t] % vocabulary);
    must(hb_embedding_backward(
        context, &(struct hb_embedding_backward_args){.ids = line(data.row_of, HB_I32, n),
                                                      .dout = matrix(data.b, n, width),
                                                      .dweight = matrix(data.a, vocabulary, width),
                                                      .present = line(data.zeros, HB_I32, vocabulary)}));
    memset(data.zeros, 0, TOKENS * sizeof *data.zeros);
}

static void column_sum(int64_t n, int64_t width)
{
    must(hb_column_sum(context, &(struct hb_column_sum_args){.x = matrix(data.a, n, width),
                                                             .out = line(data.d, HB_F32, width),
                                                             .epilogue = HB_STORE}));
}

static void router_forward(int64_t n, int64_t width)
{
    must(hb_router_forward(
        context, &(struct hb_router_forward_args){.logits = matrix(data.a, n, width),
                                                  .renormalise = true,
                                                  .probs = matrix(data.b, n, width),
                                                  .lse = line(data.e, HB_F32, n),
                                                  .index = hb_tensor_2d(context, data.row_of, HB_I32, n, K),
                                                  .weight = matrix(data.d, n, K),
                                                  .counts = line(data.scalars, HB_I64, width)}));
}

static void router_backward(int64_t n, int64_t width)
{
    must(hb_router_backward(
        context, &(struct hb_router_backward_args){.probs = matrix(data.b, n, width),
                                                   .lse = line(data.e, HB_F32, n),
                                                   .index = hb_tensor_2d(context, data.row_of, HB_I32, n, K),
                                                   .weight = matrix(data.d, n, K),
                                                   .dweight = matrix(data.a, n, K),
                                                   .renormalise = true,
                                                   .z_factor = 1e-3f,
                                                   .dlogits = matrix(data.c, n, width)}));
}

/* n counts pairs of token and expert: n / K tokens. */
static void dispatch_plan(int64_t n, int64_t width)
{
    (void)width;
    must(hb_dispatch_plan(context,
                          &(struct hb_dispatch_plan_args){.index = pairs(data.chosen, HB_I32, n),
                                                          .offsets = line(data.offsets, HB_I32, E + 1),
                                                          .row_of = pairs(data.row_of, HB_I32, n),
                                                          .pair_of = line(data.pair_of, HB_I32, n)}));
}

static void dispatch_forward(int64_t n, int64_t width)
{
    must(hb_dispatch_forward(context,
                             &(struct hb_dispatch_forward_args){.x = matrix(data.a, n / K, width),
                                                                .pair_of = line(data.pair_of, HB_I32, n),
                                                                .rows = matrix(data.b, n, width)}));
}

static void dispatch_backward(int64_t n, int64_t width)
{
    must(hb_dispatch_backward(context,
                              &(struct hb_dispatch_backward_args){.drows = matrix(data.b, n, width),
                                                                  .row_of = pairs(data.row_of, HB_I32, n),
                                                                  .dx = matrix(data.a, n / K, width)}));
}

static void combine_forward(int64_t n, int64_t width)
{
    must(
        hb_combine_forward(context, &(struct hb_combine_forward_args){.rows = matrix(data.b, n, width),
                                                                      .row_of = pairs(data.row_of, HB_I32, n),
                                                                      .weight = pairs(data.d, HB_F32, n),
                                                                      .y = matrix(data.a, n / K, width)}));
}

static void combine_backward(int64_t n, int64_t width)
{
    must(hb_combine_backward(context,
                             &(struct hb_combine_backward_args){.rows = matrix(data.b, n, width),
                                                                .row_of = pairs(data.row_of, HB_I32, n),
                                                                .weight = pairs(data.d, HB_F32, n),
                                                                .dy = matrix(data.a, n / K, width),
                                                                .drows = matrix(data.c, n, width),
                                                                .dweight = pairs(data.e, HB_F32, n)}));
}

static void fold_merge(int64_t n, int64_t width)
{
    must(hb_fold_merge(context, &(struct hb_fold_merge_args){.left = matrix(data.a, n, width),
                                                             .right = matrix(data.b, n, width)}));
}

/* With or without the counts of what left the range, as a step's gradients are read. */
static void squares(struct hb_tensor extremes, int64_t n, int64_t width)
{
    must(hb_sum(context, &(struct hb_sum_args){.x = matrix(data.a, n, width),
                                               .squares = true,
                                               .factor = 1.0f,
                                               .out = line(data.scalars, HB_F64, 1),
                                               .found = line(data.zeros, HB_I32, 1),
                                               .extremes = extremes}));
}

static void sum_of_squares(int64_t n, int64_t width)
{
    squares((struct hb_tensor){0}, n, width);
}

static struct hb_tensor extremes(void)
{
    return line((int64_t *)data.scalars + 1, HB_I64, 2);
}

static void sum_of_squares_counts(int64_t n, int64_t width)
{
    squares(extremes(), n, width);
}

static void look(struct hb_tensor counts, int64_t n, int64_t width)
{
    must(hb_finite(context, &(struct hb_finite_args){.x = matrix(data.a, n, width),
                                                     .found = line(data.zeros, HB_I32, 1),
                                                     .extremes = counts}));
}

static void find_nonfinite(int64_t n, int64_t width)
{
    look((struct hb_tensor){0}, n, width);
}

static void find_counts(int64_t n, int64_t width)
{
    look(extremes(), n, width);
}

static void adamw(int64_t n, int64_t width)
{
    must(hb_adamw(context, &(struct hb_adamw_args){.param = matrix(data.a, n, width),
                                                   .grad = matrix(data.b, n, width),
                                                   .m = matrix(data.c, n, width),
                                                   .v = matrix(data.d, n, width),
                                                   .coef = line(data.line, HB_F32, 1),
                                                   .found = line(data.zeros, HB_I32, 1),
                                                   .inv_scale = 1.0f,
                                                   .keep = 0.9999f,
                                                   .beta1 = 0.9f,
                                                   .one_minus_beta1 = 0.1f,
                                                   .beta2 = 0.95f,
                                                   .one_minus_beta2 = 0.05f,
                                                   .step_size = 1e-5f,
                                                   .root2 = 1.0f,
                                                   .eps = 1e-8f,
                                                   .groups = 1}));
}

/* Bytes are per element of n x width. A row of a smaller side counts by its share. */
static const struct measurement {
    const char *name;
    void (*run)(int64_t n, int64_t width);
    int64_t n, width;
    double bytes;
} measurements[] = {
    {"(copy)", copy, 4096, 2048, 8},
    {"rmsnorm_forward", rmsnorm_forward, 4096, 768, 8},
    {"rmsnorm_forward, heads", rmsnorm_forward, 49152, D, 8},
    {"rmsnorm_backward_input", rmsnorm_backward_input, 4096, 768, 12},
    {"rmsnorm_backward_input, heads", rmsnorm_backward_input, 49152, D, 12},
    {"rmsnorm_backward_weight", rmsnorm_backward_weight, 4096, 768, 8},
    {"rmsnorm_backward_weight, heads", rmsnorm_backward_weight, 49152, D, 8},
    {"rope", rope, 4096, 768, 8},
    {"rope, in place", rope_in_place, 4096, 768, 8},
    {"swiglu_forward", swiglu_forward, 4096, 2048, 12},
    {"swiglu_backward", swiglu_backward, 4096, 2048, 20},
    {"add", add, 4096, 768, 12},
    {"cross_entropy", cross_entropy, 256, 50304, 4},
    {"cross_entropy, gradient", cross_entropy_gradient, 256, 50304, 8},
    {"embedding_forward", embedding_forward, 4096, 768, 8},
    {"embedding_backward", embedding_backward, 4096, 768, 8},
    {"column_sum", column_sum, 4096, 2048, 4},
    {"router_forward", router_forward, 4096, E, 8},
    {"router_backward", router_backward, 4096, E, 8},
    {"dispatch_plan", dispatch_plan, 8192, 1, 12},
    {"dispatch_forward", dispatch_forward, 8192, 768, 4 + 4.0 / K},
    {"dispatch_backward", dispatch_backward, 8192, 768, 4 + 4.0 / K},
    {"combine_forward", combine_forward, 8192, 768, 4 + 4.0 / K},
    {"combine_backward", combine_backward, 8192, 768, 8 + 4.0 / K},
    {"fold_merge", fold_merge, 4096, 2048, 12},
    {"sum of squares", sum_of_squares, 4096, 2048, 4},
    {"sum of squares, with counts", sum_of_squares_counts, 4096, 2048, 4},
    {"finite", find_nonfinite, 4096, 2048, 4},
    {"finite, with counts", find_counts, 4096, 2048, 4},
    {"adamw", adamw, 4096, 2048, 28},
};

/* Nanoseconds per element. */
static double best(const struct measurement *m, int threads)
{
    float *floats[] = {data.a, data.b, data.c, data.d, data.e};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        fill(floats[i], m->n * m->width);
    context->threads = threads;
    m->run(m->n, m->width);
    double seconds = 1e30;
    for (int call = 0; call < CALLS; call++) {
        double start = hb_clock_now();
        m->run(m->n, m->width);
        double taken = hb_clock_now() - start;
        seconds = taken < seconds ? taken : seconds;
    }
    return seconds * 1e9 / (double)(m->n * m->width);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    if (argc > 2 || threads < 1) {
        fprintf(stderr, "usage: bench-rows [threads]\n");
        return 2;
    }
    const struct hb_backend *cpu;
    struct hb_context opened;
    must(hb_cpu_select(&cpu));
    must(hb_context_open(cpu, HB_CANONICAL, threads, &opened));
    context = &opened;
    prepare();
    printf("%-31s %13s | 1 thread        | %d threads\n", "op", "rows x width", threads);
    printf("%-31s %13s | %8s %6s | %8s %6s\n", "", "", "ns/el", "GB/s", "ns/el", "GB/s");
    for (size_t i = 0; i < sizeof measurements / sizeof *measurements; i++) {
        const struct measurement *m = &measurements[i];
        double one = best(m, 1), many = best(m, threads);
        printf("%-31s %6d x %-5d | %8.3f %6.1f | %8.3f %6.1f\n", m->name, (int)m->n, (int)m->width, one,
               m->bytes / one, many, m->bytes / many);
    }
    float *floats[] = {data.a, data.b, data.c, data.d, data.e, data.line};
    int32_t *indices[] = {data.ids, data.zeros, data.chosen, data.row_of, data.pair_of, data.offsets};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        hb_free(context, floats[i]);
    for (size_t i = 0; i < sizeof indices / sizeof *indices; i++)
        hb_free(context, indices[i]);
    hb_free(context, data.scalars);
    hb_context_close(&opened);
    return 0;
}
