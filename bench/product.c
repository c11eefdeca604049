/* Speed of products: canonical (this library's kernels) against fast (OpenBLAS)
 * in one run, with the FMA peak measured beside them.
 *
 *   bench-product [--threads N] [--quick]     (default: on 1 thread, then on all processors)
 *
 * The two take turns, several calls each; the best call of each counts, because
 * on a shared machine every disturbance only adds time. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/select.h"
#include "ops/clock.h"
#include "ops/peak.h"

enum { ROUNDS = 5, CALLS = 4, RATIOS = 256 };

static const char *const form_name[] = {"NT", "NN", "TN"};

struct bench {
    struct hb_context canonical, fast;
    double peak; /* GFLOP/s */
    int rounds;
    double ratio[RATIOS];
    int count;
};

static void must(hb_status status)
{
    if (status != HB_OK) {
        fprintf(stderr, "bench-product: %s\n", hb_error());
        exit(1);
    }
}

static struct hb_tensor filled(struct hb_context *context, int rank, int64_t n0, int64_t n1, int64_t n2)
{
    struct hb_tensor t = {.home = context, .dtype = HB_F32, .rank = rank, .shape = {n0, n1, n2, 1, 1, 1}};
    must(hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    float *x = t.data;
    uint32_t state = 1;
    for (int64_t i = 0, count = hb_tensor_count(&t); i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
    return t;
}

static void give_to(struct hb_product_args *args, struct hb_context *context)
{
    args->a.home = args->b.home = args->out.home = args->offsets.home = context;
}

static double best_of_calls(struct hb_context *context, struct hb_product_args args)
{
    give_to(&args, context);
    must(hb_product(context, &args)); /* wakes the threads of this side */
    double best = 1e30;
    for (int call = 0; call < CALLS; call++) {
        double start = hb_clock_now();
        must(hb_product(context, &args));
        double seconds = hb_clock_now() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static double compare(struct bench *bench, struct hb_product_args args, double flops, const char *label)
{
    double ours = 1e30, theirs = 1e30;
    for (int round = 0; round < bench->rounds; round++) {
        double seconds = best_of_calls(&bench->canonical, args);
        ours = seconds < ours ? seconds : ours;
        seconds = best_of_calls(&bench->fast, args);
        theirs = seconds < theirs ? seconds : theirs;
    }
    double gflops = flops / ours / 1e9, ratio = theirs / ours;
    printf("%-24s %s  %7d %9.1f %9.1f %7.2f %6.0f %%\n", label, form_name[args.form],
           bench->canonical.threads, gflops, flops / theirs / 1e9, ratio, 100 * gflops / bench->peak);
    fflush(stdout);
    return ratio;
}

static struct hb_product_args make(struct bench *bench, enum hb_product_form form, int64_t m, int64_t n,
                                   int64_t k)
{
    struct hb_context *c = &bench->canonical;
    bool transposed = form == HB_PRODUCT_TN;
    return (struct hb_product_args){
        .form = form,
        .a = transposed ? filled(c, 2, k, m, 1) : filled(c, 2, m, k, 1),
        .b = form == HB_PRODUCT_NT ? filled(c, 2, n, k, 1) : filled(c, 2, k, n, 1),
        .out = filled(c, 2, m, n, 1),
    };
}

/* `groups` experts with `rows` rows each: y = x W^T, dx = dy W, dW = dy^T x. */
static struct hb_product_args make_experts(struct bench *bench, enum hb_product_form form, int64_t groups,
                                           int64_t rows, int64_t n, int64_t k)
{
    struct hb_context *c = &bench->canonical;
    struct hb_product_args args = {.form = form, .offsets = filled(c, 1, groups + 1, 1, 1)};
    args.offsets.dtype = HB_I32;
    for (int64_t g = 0; g <= groups; g++)
        ((int32_t *)args.offsets.data)[g] = (int32_t)(g * rows);
    struct hb_tensor tokens_n = filled(c, 2, groups * rows, n, 1),
                     tokens_k = filled(c, 2, groups * rows, k, 1);
    struct hb_tensor weights = filled(c, 3, groups, n, k);
    args.a = form == HB_PRODUCT_NT ? tokens_k : tokens_n;
    args.b = form == HB_PRODUCT_TN ? tokens_k : weights;
    args.out = form == HB_PRODUCT_NT ? tokens_n : form == HB_PRODUCT_NN ? tokens_k : weights;
    return args;
}

static void release(struct bench *bench, struct hb_product_args *args)
{
    hb_free(&bench->canonical, args->a.data);
    hb_free(&bench->canonical, args->b.data);
    hb_free(&bench->canonical, args->out.data);
    hb_free(&bench->canonical, args->offsets.data);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summary(struct bench *bench, const char *what)
{
    if (bench->count == 0)
        return;
    qsort(bench->ratio, (size_t)bench->count, sizeof *bench->ratio, ascending);
    printf("%s: ratio median %.2f, lowest %.2f, highest %.2f\n\n", what, bench->ratio[bench->count / 2],
           bench->ratio[0], bench->ratio[bench->count - 1]);
    bench->count = 0;
}

static void dense(struct bench *bench, bool quick)
{
    static const int64_t shapes[][3] = {
        {512, 512, 512}, {1024, 1024, 1024}, {1024, 2048, 768}, {1024, 4096, 384}, {2048, 2048, 2048},
    };
    int count = quick ? 3 : 5;
    for (int s = 0; s < count; s++)
        for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++) {
            int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            char label[64];
            snprintf(label, sizeof label, "%lld x %lld x %lld", (long long)m, (long long)n, (long long)k);
            struct hb_product_args args = make(bench, (enum hb_product_form)form, m, n, k);
            double flops = 2.0 * (double)m * (double)n * (double)k;
            bench->ratio[bench->count++] = compare(bench, args, flops, label);
            release(bench, &args);
        }
    summary(bench, "dense");
}

/* Weights of 128 MB: no cache keeps them from one call to the next. */
static void experts(struct bench *bench, bool quick)
{
    static const int64_t rows_of[] = {1, 2, 4, 8, 16, 32, 64, 128};
    enum { GROUPS = 64, N = 1024, K = 512 };
    for (int form = HB_PRODUCT_NT; form <= HB_PRODUCT_TN; form++)
        for (size_t r = 0; r < sizeof rows_of / sizeof *rows_of; r++) {
            int64_t rows = rows_of[r];
            if (quick && rows != 4 && rows != 16 && rows != 128)
                continue;
            char label[64];
            snprintf(label, sizeof label, "%d experts, %lld rows", GROUPS, (long long)rows);
            struct hb_product_args args = make_experts(bench, (enum hb_product_form)form, GROUPS, rows, N, K);
            double ratio = compare(bench, args, 2.0 * GROUPS * (double)rows * N * K, label);
            if (rows >= 4)
                bench->ratio[bench->count++] = ratio;
            release(bench, &args);
        }
    summary(bench, "experts of 4 rows and more");
}

static void run(int threads, bool quick)
{
    const struct hb_backend *backend;
    must(hb_cpu_select(&backend));
    struct bench bench = {.rounds = quick ? 2 : ROUNDS};
    must(hb_context_open(backend, HB_CANONICAL, threads, &bench.canonical));
    must(hb_context_open(backend, HB_FAST, threads, &bench.fast));
    bench.peak = hb_peak_gflops(bench.canonical.threads);
    printf("FMA peak on %d threads: %.0f GFLOP/s\n", bench.canonical.threads, bench.peak);
    printf("%-24s %s %7s %9s %9s %7s %8s\n", "m x n x k", "form", "threads", "GF/s", "OpenBLAS", "ratio",
           "of peak");
    dense(&bench, quick);
    experts(&bench, quick);
    hb_context_close(&bench.fast);
    hb_context_close(&bench.canonical);
}

int main(int argc, char **argv)
{
    int threads = 0;
    bool quick = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: %s [--threads N] [--quick]\n", argv[0]);
            return 2;
        }
    if (threads == 0)
        run(1, quick);
    run(threads, quick);
    return 0;
}
