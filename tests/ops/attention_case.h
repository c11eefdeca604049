/* Cases of the attention tests: segments with host data, run forward and (where
 * counts of queries and keys are equal) backward on any context. */
#ifndef HB_TESTS_OPS_ATTENTION_CASE_H
#define HB_TESTS_OPS_ATTENTION_CASE_H

#include "ops/harness.h"

#include <math.h>
#include <stdio.h>

#include "cpu/select.h"

enum { SEGMENTS_MAX = 40 };

struct shape {
    int segments;
    int32_t queries[SEGMENTS_MAX], keys[SEGMENTS_MAX];
    int64_t H, G, D;
};

/* Host data of one case. */
struct example {
    struct shape shape;
    int64_t n, m, longest;
    int32_t q_begin[SEGMENTS_MAX + 1], k_begin[SEGMENTS_MAX + 1];
    float scale;
    float *q, *k, *v, *dout;
    bool backward;
};

static inline struct example example_of(const struct shape *shape, enum th_kind kind, uint64_t seed)
{
    struct example e = {.shape = *shape, .scale = 1.0f / sqrtf((float)shape->D), .backward = true};
    for (int s = 0; s < shape->segments; s++) {
        int32_t keys = shape->keys[s] ? shape->keys[s] : shape->queries[s]; /* 0: as many as queries */
        e.q_begin[s + 1] = e.q_begin[s] + shape->queries[s];
        e.k_begin[s + 1] = e.k_begin[s] + keys;
        e.longest = keys > e.longest ? keys : e.longest;
        e.backward = e.backward && keys == shape->queries[s];
    }
    e.n = e.q_begin[shape->segments];
    e.m = e.k_begin[shape->segments];
    e.q = th_numbers(kind, seed, e.n * shape->H * shape->D);
    e.k = th_numbers(kind, seed + 1, e.m * shape->G * shape->D);
    e.v = th_numbers(kind, seed + 2, e.m * shape->G * shape->D);
    e.dout = th_numbers(kind == TH_LARGE ? TH_NORMAL : kind, seed + 3, e.n * shape->H * shape->D);
    return e;
}

static inline void example_release(struct example *e)
{
    free(e->q);
    free(e->k);
    free(e->v);
    free(e->dout);
}

static inline struct hb_attention_forward_args forward_args(struct hb_context *c, const struct example *e)
{
    const struct shape *s = &e->shape;
    enum hb_dtype real = th_real(c);
    return (struct hb_attention_forward_args){
        .q = th_3d(c, real, e->n, s->H, s->D, e->q),
        .k = th_3d(c, real, e->m, s->G, s->D, e->k),
        .v = th_3d(c, real, e->m, s->G, s->D, e->v),
        .q_begin = th_1d(c, HB_I32, s->segments + 1, e->q_begin),
        .k_begin = th_1d(c, HB_I32, s->segments + 1, e->k_begin),
        .longest = e->longest,
        .scale = e->scale,
        .out = th_3d(c, real, e->n, s->H, s->D, NULL),
        .lse = th_2d(c, real, e->n, s->H, NULL),
    };
}

static inline void forward_free(struct hb_context *c, struct hb_attention_forward_args *f)
{
    struct hb_tensor *all[] = {&f->q, &f->k, &f->v, &f->q_begin, &f->k_begin, &f->out, &f->lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(c, all[i]);
}

static inline struct hb_attention_backward_args backward_args(struct hb_context *c, const struct example *e,
                                                              const struct hb_attention_forward_args *f)
{
    const struct shape *s = &e->shape;
    enum hb_dtype real = th_real(c);
    return (struct hb_attention_backward_args){
        .q = f->q,
        .k = f->k,
        .v = f->v,
        .q_begin = f->q_begin,
        .k_begin = f->k_begin,
        .longest = f->longest,
        .scale = f->scale,
        .out = f->out,
        .lse = f->lse,
        .dout = th_3d(c, real, e->n, s->H, s->D, e->dout),
        .dq = th_3d(c, real, e->n, s->H, s->D, NULL),
        .dk = th_3d(c, real, e->m, s->G, s->D, NULL),
        .dv = th_3d(c, real, e->m, s->G, s->D, NULL),
    };
}

static inline void backward_free(struct hb_context *c, struct hb_attention_backward_args *b)
{
    struct hb_tensor *all[] = {&b->dout, &b->dq, &b->dk, &b->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(c, all[i]);
}

static inline void run(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct example *e = data;
    struct hb_attention_forward_args f = forward_args(c, e);
    TH_OK(hb_attention_forward(c, &f));
    TH_OK(hb_sync(c));
    th_keep(out, c, "out", f.out);
    th_keep(out, c, "lse", f.lse);
    if (e->backward) {
        struct hb_attention_backward_args b = backward_args(c, e, &f);
        TH_OK(hb_attention_backward(c, &b));
        TH_OK(hb_sync(c));
        th_keep(out, c, "dq", b.dq);
        th_keep(out, c, "dk", b.dk);
        th_keep(out, c, "dv", b.dv);
        backward_free(c, &b);
    }
    forward_free(c, &f);
}

/* Runs on the best cpu level with two threads. */
static inline struct th_outputs run_fast(const struct example *e)
{
    struct hb_context c;
    const struct hb_backend *cpu;
    struct th_outputs out = {0};
    TH_OK(hb_cpu_select(&cpu));
    TH_OK(hb_context_open(cpu, HB_CANONICAL, 2, &c));
    run(&c, e, &out);
    hb_context_close(&c);
    return out;
}

#endif
