/* Speed of attention, forward and backward, with the FMA peak measured beside it.
 *
 *   bench-attention [--threads N] [--quick]
 *
 * GFLOP/s count the visible pairs only (half the square), forward 4 D and
 * backward 10 D a pair. The best call counts, because on a shared machine every
 * disturbance only adds time. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/select.h"
#include "ops/clock.h"
#include "ops/peak.h"

struct shape {
    const char *label;
    int64_t segments, T, H, G, D;
    int64_t queries; /* per segment, the last ones; T: training */
};

static const struct shape shapes[] = {
    {"T 64, 12 heads of 64", 4, 64, 12, 12, 64, 64},      {"T 256, 6 heads of 64", 4, 256, 6, 6, 64, 256},
    {"T 1024, 6 heads of 64", 1, 1024, 6, 6, 64, 1024},   {"T 1024, 8 heads on 2", 1, 1024, 8, 2, 64, 1024},
    {"T 1024, 1 head of 64", 1, 1024, 1, 1, 64, 1024},    {"documents of 100", 40, 100, 6, 6, 64, 100},
    {"documents of 10", 100, 10, 6, 6, 64, 10},           {"T 4096, 2 heads of 64", 1, 4096, 2, 2, 64, 4096},
    {"T 4096, 2 heads of 128", 1, 4096, 2, 2, 128, 4096}, {"token 1024, 12 heads", 1, 1024, 12, 12, 64, 1},
};

static void must(hb_status status)
{
    if (status != HB_OK) {
        fprintf(stderr, "bench-attention: %s\n", hb_error());
        exit(1);
    }
}

static struct hb_tensor filled(struct hb_context *context, int64_t n0, int64_t n1, int64_t n2)
{
    struct hb_tensor t = hb_tensor_3d(context, NULL, HB_F32, n0, n1, n2);
    must(hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    float *x = t.data;
    static uint32_t state = 1;
    for (int64_t i = 0, count = hb_tensor_count(&t); i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = 4.0f * ((float)(state >> 8) / (float)(1 << 24) - 0.5f);
    }
    return t;
}

static struct hb_tensor begins(struct hb_context *context, int64_t segments, int64_t length)
{
    struct hb_tensor t = hb_tensor_1d(context, NULL, HB_I32, segments + 1);
    must(hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    for (int64_t s = 0; s <= segments; s++)
        ((int32_t *)t.data)[s] = (int32_t)(s * length);
    return t;
}

static void measure(struct hb_context *context, const struct shape *s, double peak, double seconds)
{
    int64_t n = s->segments * s->queries, m = s->segments * s->T;
    bool training = s->queries == s->T;
    struct hb_attention_forward_args f = {
        .q = filled(context, n, s->H, s->D),
        .k = filled(context, m, s->G, s->D),
        .v = filled(context, m, s->G, s->D),
        .q_begin = begins(context, s->segments, s->queries),
        .k_begin = begins(context, s->segments, s->T),
        .longest = s->T,
        .scale = 1.0f / sqrtf((float)s->D),
        .out = filled(context, n, s->H, s->D),
        .lse = hb_tensor_as_2d(filled(context, n, s->H, 1), n, s->H),
    };
    struct hb_attention_backward_args b = {
        .q = f.q,
        .k = f.k,
        .v = f.v,
        .q_begin = f.q_begin,
        .k_begin = f.k_begin,
        .longest = f.longest,
        .scale = f.scale,
        .out = f.out,
        .lse = f.lse,
        .dout = filled(context, n, s->H, s->D),
        .dq = filled(context, n, s->H, s->D),
        .dk = filled(context, m, s->G, s->D),
        .dv = filled(context, m, s->G, s->D),
    };
    double forward = 1e30, both = 1e30;
    for (double end = hb_clock_now() + seconds; hb_clock_now() < end;) {
        double start = hb_clock_now();
        must(hb_attention_forward(context, &f));
        double middle = hb_clock_now();
        forward = middle - start < forward ? middle - start : forward;
        if (!training)
            continue;
        must(hb_attention_backward(context, &b));
        double all = hb_clock_now() - start;
        both = all < both ? all : both;
    }
    double pairs =
        (double)(s->segments * s->H) * ((double)s->queries * (double)(2 * s->T - s->queries + 1) / 2);
    double gflops = 4 * (double)s->D * pairs / forward / 1e9;
    printf("%-24s %7d %10.3f %7.1f %5.0f %%", s->label, context->threads, 1e3 * forward, gflops,
           100 * gflops / peak);
    if (training) {
        gflops = 14 * (double)s->D * pairs / both / 1e9;
        printf(" %10.3f %7.1f %5.0f %%", 1e3 * both, gflops, 100 * gflops / peak);
    }
    printf("\n");
    struct hb_tensor *all[] = {&f.q,   &f.k,    &f.v,  &f.q_begin, &f.k_begin, &f.out,
                               &f.lse, &b.dout, &b.dq, &b.dk,      &b.dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        hb_free(context, all[i]->data);
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
    const struct hb_backend *backend;
    struct hb_context context;
    must(hb_cpu_select(&backend));
    must(hb_context_open(backend, HB_CANONICAL, threads, &context));
    double peak = hb_peak_gflops(context.threads);
    printf("FMA peak on %d threads: %.0f GFLOP/s\n", context.threads, peak);
    printf("%-24s %7s %10s %7s %7s %10s %7s %7s\n", "", "threads", "forward ms", "GF/s", "of peak",
           "with bw ms", "GF/s", "of peak");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        measure(&context, &shapes[s], peak, quick ? 0.2 : 1.5);
    hb_context_close(&context);
    return 0;
}
