/* Long contexts: what tiles save over the T^2 form, and a window over all keys.
 *
 *   bench-attention-long [--threads N] [--heads H] [--quick]
 *
 * 1. Flash attention against the naive form at 1K, 4K and 16K: the same products,
 *    with S and P, dP and dS stored for one head at a time (the naive form's
 *    least memory). Bytes are those beside q, k, v, out and their gradients.
 * 2. A window of 2048 with 64 slots against all keys at 16K: forward, forward with
 *    backward, one token behind 16K others, bytes of the cache of keys and values.
 *    The window without slots as well, for torch_attention.py's masked form.
 *
 * The best call counts; --quick measures each once, up to 4K. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/math.h"
#include "cpu/select.h"
#include "ops/clock.h"

enum { D = 64, WINDOW = 2048, SLOTS = 64 };

struct bench {
    struct hb_context context;
    int64_t H;
    double seconds; /* to spend on each measurement, at least one call */
};

static void must(hb_status status)
{
    if (status != HB_OK) {
        fprintf(stderr, "bench-attention-long: %s\n", hb_error());
        exit(1);
    }
}

static struct hb_tensor empty(struct bench *b, int64_t n0, int64_t n1, int64_t n2)
{
    struct hb_tensor t = hb_tensor_3d(&b->context, NULL, HB_F32, n0, n1, n2);
    must(hb_alloc(&b->context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    return t;
}

static struct hb_tensor filled(struct bench *b, int64_t n0, int64_t n1, int64_t n2)
{
    struct hb_tensor t = empty(b, n0, n1, n2);
    float *x = t.data;
    static uint32_t state = 1;
    for (int64_t i = 0, count = hb_tensor_count(&t); i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = 4.0f * ((float)(state >> 8) / (float)(1 << 24) - 0.5f);
    }
    return t;
}

static struct hb_tensor begins(struct bench *b, int64_t length)
{
    struct hb_tensor t = hb_tensor_1d(&b->context, NULL, HB_I32, 2);
    must(hb_alloc(&b->context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    ((int32_t *)t.data)[0] = 0;
    ((int32_t *)t.data)[1] = (int32_t)length;
    return t;
}

/* Best time of a call in milliseconds. */
static double best(struct bench *b, void (*call)(struct bench *, void *), void *data)
{
    double least = 1e30;
    call(b, data); /* memory is touched, workspace has grown */
    for (double end = hb_clock_now() + b->seconds;;) {
        double start = hb_clock_now();
        call(b, data);
        double now = hb_clock_now();
        least = now - start < least ? now - start : least;
        if (now >= end)
            return 1e3 * least;
    }
}

static int64_t bytes_now(void)
{
    return hb_memory_now(HB_MEMORY_ACTIVATIONS) + hb_memory_now(HB_MEMORY_WORKSPACE);
}

/* --- flash --- */

struct flash {
    struct hb_attention_forward_args f;
    struct hb_attention_backward_args b;
};

static void flash_forward(struct bench *b, void *data)
{
    must(hb_attention_forward(&b->context, &((struct flash *)data)->f));
}

static void flash_both(struct bench *b, void *data)
{
    flash_forward(b, data);
    must(hb_attention_backward(&b->context, &((struct flash *)data)->b));
}

/* `queries` last positions of T; `ring` rows of keys, 0: all T. */
static struct flash flash_open(struct bench *b, int64_t T, int64_t queries, int64_t window, int64_t slots,
                               int64_t ring)
{
    int64_t rows = ring ? ring : T;
    struct flash x = {.f = {.q = filled(b, queries, b->H, D),
                            .k = filled(b, rows, b->H, D),
                            .v = filled(b, rows, b->H, D),
                            .q_begin = begins(b, queries),
                            .k_begin = begins(b, T),
                            .longest = T,
                            .scale = 0.125f,
                            .window = window,
                            .ring = ring,
                            .out = empty(b, queries, b->H, D)}};
    if (slots) {
        x.f.slots_k = filled(b, slots, b->H, D);
        x.f.slots_v = filled(b, slots, b->H, D);
    }
    struct hb_attention_backward_args g = {.q = x.f.q,
                                           .k = x.f.k,
                                           .v = x.f.v,
                                           .q_begin = x.f.q_begin,
                                           .k_begin = x.f.k_begin,
                                           .longest = T,
                                           .scale = x.f.scale,
                                           .window = window,
                                           .slots_k = x.f.slots_k,
                                           .slots_v = x.f.slots_v,
                                           .out = x.f.out};
    if (queries == T) {
        g.dout = filled(b, T, b->H, D);
        g.dq = empty(b, T, b->H, D);
        g.dk = empty(b, T, b->H, D);
        g.dv = empty(b, T, b->H, D);
    }
    if (queries == T && slots) {
        g.dslots_k = empty(b, slots, b->H, D);
        g.dslots_v = empty(b, slots, b->H, D);
    }
    x.b = g;
    return x;
}

static void flash_lse(struct bench *b, struct flash *x)
{
    x->f.lse = hb_tensor_as_2d(empty(b, x->f.q.shape[0], b->H, 1), x->f.q.shape[0], b->H);
    x->b.lse = x->f.lse;
}

static void flash_close(struct bench *b, struct flash *x)
{
    struct hb_tensor *all[] = {&x->f.q,       &x->f.k,       &x->f.v,   &x->f.q_begin, &x->f.k_begin,
                               &x->f.slots_k, &x->f.slots_v, &x->f.out, &x->f.lse,     &x->b.dout,
                               &x->b.dq,      &x->b.dk,      &x->b.dv,  &x->b.dslots_k, &x->b.dslots_v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        hb_free(&b->context, all[i]->data);
}

/* --- naive: one head after the other, T^2 stored --- */

struct naive {
    int64_t T;
    struct hb_tensor q, k, v, out, dout, dq, dk, dv; /* [T,D] */
    struct hb_tensor p, ds;                          /* [T,T] */
};

static void product(struct bench *b, enum hb_product_form form, struct hb_tensor x, struct hb_tensor y,
                    struct hb_tensor out)
{
    must(hb_product(&b->context, &(struct hb_product_args){.form = form, .a = x, .b = y, .out = out}));
}

/* The rows between the products are to be as fast as the products are. */
#if defined(__x86_64__)
#define LEVELS __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define LEVELS
#endif

/* Row i of S becomes P: what lies behind i is masked. `T` is a multiple of 32. */
LEVELS static void softmax_row(float *restrict s, int64_t i, int64_t T)
{
    float most[32], sum[32] = {0}, top = -INFINITY, total = 0;
    int64_t end = (i + 32) / 32 * 32;
    for (int64_t j = i + 1; j < end; j++)
        s[j] = -1e30f;
    for (int l = 0; l < 32; l++)
        most[l] = -INFINITY;
    for (int64_t j = 0; j < end; j += 32)
        for (int l = 0; l < 32; l++)
            most[l] = s[j + l] > most[l] ? s[j + l] : most[l];
    for (int l = 0; l < 32; l++)
        top = most[l] > top ? most[l] : top;
    for (int64_t j = 0; j < end; j++)
        s[j] = hb_expf((s[j] - top) * 0.125f);
    for (int64_t j = 0; j < end; j += 32)
        for (int l = 0; l < 32; l++)
            sum[l] += s[j + l];
    for (int l = 0; l < 32; l++)
        total += sum[l];
    for (int64_t j = 0; j < end; j++)
        s[j] *= 1.0f / total;
    memset(s + end, 0, (size_t)(T - end) * sizeof *s);
}

static void naive_forward(struct bench *b, void *data)
{
    struct naive *x = data;
    for (int64_t h = 0; h < b->H; h++) {
        product(b, HB_PRODUCT_NT, x->q, x->k, x->p);
#pragma omp parallel for schedule(dynamic, 16) num_threads(b->context.threads)
        for (int64_t i = 0; i < x->T; i++)
            softmax_row((float *)x->p.data + i * x->T, i, x->T);
        product(b, HB_PRODUCT_NN, x->p, x->v, x->out);
    }
}

/* dS = P (dP - dO . O) scale, in place of dP. */
LEVELS static void score_gradient_row(const float *restrict p, float *restrict ds, const float *out,
                                      const float *dout, int64_t T)
{
    float lane[D], delta = 0;
    for (int64_t d = 0; d < D; d++)
        lane[d] = out[d] * dout[d];
    for (int64_t d = 0; d < D; d++)
        delta += lane[d];
    for (int64_t j = 0; j < T; j++)
        ds[j] = p[j] * (ds[j] - delta) * 0.125f;
}

/* Forward with backward, head by head: P of one head is there at a time. */
static void naive_both(struct bench *b, void *data)
{
    struct naive *x = data;
    int64_t heads = b->H;
    b->H = 1;
    for (int64_t h = 0; h < heads; h++) {
        naive_forward(b, data);
        product(b, HB_PRODUCT_TN, x->p, x->dout, x->dv);
        product(b, HB_PRODUCT_NT, x->dout, x->v, x->ds);
#pragma omp parallel for schedule(static) num_threads(b->context.threads)
        for (int64_t i = 0; i < x->T; i++)
            score_gradient_row((float *)x->p.data + i * x->T, (float *)x->ds.data + i * x->T,
                               (float *)x->out.data + i * D, (float *)x->dout.data + i * D, x->T);
        product(b, HB_PRODUCT_NN, x->ds, x->k, x->dq);
        product(b, HB_PRODUCT_TN, x->ds, x->q, x->dk);
    }
    b->H = heads;
}

static struct hb_tensor matrix(struct hb_tensor t)
{
    return hb_tensor_as_2d(t, t.shape[0], t.shape[1] * t.shape[2]);
}

static void measure_naive(struct bench *b, int64_t T, double forward, double both, int64_t flash_bytes)
{
    struct naive x = {.T = T};
    struct hb_tensor *thin[] = {&x.q, &x.k, &x.v, &x.out, &x.dout, &x.dq, &x.dk, &x.dv};
    for (int i = 0; i < 8; i++)
        *thin[i] = matrix(filled(b, T, 1, D));
    int64_t before = bytes_now();
    x.p = matrix(empty(b, T, 1, T));
    x.ds = matrix(empty(b, T, 1, T));
    double naive_f = best(b, naive_forward, &x), naive_b = best(b, naive_both, &x);
    double bytes = (double)(bytes_now() - before);
    printf("naive  %6lld %12.2f %12.2f %12.1f   x %.2f  x %.2f  bytes x %.0f\n", (long long)T, naive_f,
           naive_b, bytes / 1e6, naive_f / forward, naive_b / both, bytes / (double)flash_bytes);
    for (int i = 0; i < 8; i++)
        hb_free(&b->context, thin[i]->data);
    hb_free(&b->context, x.p.data);
    hb_free(&b->context, x.ds.data);
}

/* --- windows --- */

static double token(struct bench *b, int64_t T, int64_t window, int64_t slots)
{
    struct flash x = flash_open(b, T, 1, window, slots, window);
    flash_lse(b, &x);
    double ms = best(b, flash_forward, &x);
    flash_close(b, &x);
    return ms;
}

static void measure(struct bench *b, int64_t T, bool windows)
{
    struct hb_context *c = &b->context;
    /* A context of its own, so that its workspace is this call's. */
    const struct hb_backend *backend = c->backend;
    int threads = c->threads;
    hb_context_close(c);
    must(hb_context_open(backend, HB_CANONICAL, threads, c));
    struct flash x = flash_open(b, T, T, 0, 0, 0);
    int64_t before = bytes_now();
    flash_lse(b, &x);
    double forward = best(b, flash_forward, &x), both = best(b, flash_both, &x);
    int64_t bytes = bytes_now() - before;
    printf("flash  %6lld %12.2f %12.2f %12.1f\n", (long long)T, forward, both, (double)bytes / 1e6);
    flash_close(b, &x);
    measure_naive(b, T, forward, both, bytes);
    if (!windows)
        return;
    x = flash_open(b, T, T, WINDOW, SLOTS, 0);
    flash_lse(b, &x);
    double window_f = best(b, flash_forward, &x), window_b = best(b, flash_both, &x);
    flash_close(b, &x);
    x = flash_open(b, T, T, WINDOW, 0, 0); /* what a masked form without slots computes */
    flash_lse(b, &x);
    double alone_f = best(b, flash_forward, &x), alone_b = best(b, flash_both, &x);
    flash_close(b, &x);
    double full = token(b, T, 0, 0), near = token(b, T, WINDOW, SLOTS);
    double row = 2.0 * (double)b->H * D * sizeof(float);
    printf("\nwindow %d + %d slots against all keys, T %lld, %lld heads of %d\n", WINDOW, SLOTS, (long long)T,
           (long long)b->H, D);
    printf("forward          %10.2f ms %10.2f ms   x %.2f\n", forward, window_f, forward / window_f);
    printf("with backward    %10.2f ms %10.2f ms   x %.2f\n", both, window_b, both / window_b);
    printf("without slots: forward %.2f ms, with backward %.2f ms\n", alone_f, alone_b);
    printf("one token        %10.4f ms %10.4f ms   x %.2f\n", full, near, full / near);
    printf("cache            %10.2f MB %10.2f MB   -%.1f %%\n", (double)T * row / 1e6,
           (WINDOW + SLOTS) * row / 1e6, 100 * (1 - (double)(WINDOW + SLOTS) / (double)T));
}

int main(int argc, char **argv)
{
    struct bench b = {.H = 2, .seconds = 1};
    int threads = 0;
    bool quick = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--heads") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0)
            b.H = atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: %s [--threads N] [--heads H] [--quick]\n", argv[0]);
            return 2;
        }
    const struct hb_backend *backend;
    must(hb_cpu_select(&backend));
    must(hb_context_open(backend, HB_CANONICAL, threads, &b.context));
    b.seconds = quick ? 0 : 1;
    printf("%d threads, %lld heads of %d, causal, fp32\n", b.context.threads, (long long)b.H, D);
    printf("%-6s %6s %12s %12s %12s\n", "", "T", "forward ms", "with bw ms", "MB beside");
    measure(&b, 1024, false);
    measure(&b, 4096, quick);
    if (!quick)
        measure(&b, 16384, true);
    hb_context_close(&b.context);
    return 0;
}
