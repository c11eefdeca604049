/* Cases of the attention tests: segments with host data, run forward and (where
 * counts of queries and keys are equal) backward on any context. */
#ifndef HB_TESTS_OPS_ATTENTION_CASE_H
#define HB_TESTS_OPS_ATTENTION_CASE_H

#include "ops/harness.h"

#include <math.h>
#include <stdio.h>

#include "cpu/select.h"

enum { SEGMENTS_MAX = 70 };

struct shape {
    int segments;
    int32_t queries[SEGMENTS_MAX], keys[SEGMENTS_MAX];
    int64_t H, G, D;
};

/* Who sees whom, where that is not plain causal attention. */
struct sight {
    int64_t window, sinks, slots;
    bool bidirectional;
    enum hb_attention_combine combine;
    int64_t ring;
};

/* Host data of one case. */
struct example {
    struct shape shape;
    struct sight sight;
    int64_t n, m, longest;
    int32_t q_begin[SEGMENTS_MAX + 1], k_begin[SEGMENTS_MAX + 1];
    float scale;
    float *q, *k, *v, *dout, *slots_k, *slots_v, *gate;
    bool backward;
};

static inline struct example example_with(const struct shape *shape, const struct sight *sight,
                                          enum th_kind kind, uint64_t seed)
{
    struct example e = {.shape = *shape, .sight = *sight, .scale = 1.0f / sqrtf((float)shape->D),
                        .backward = true};
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
    e.slots_k = th_numbers(kind, seed + 4, sight->slots * shape->G * shape->D);
    e.slots_v = th_numbers(kind, seed + 5, sight->slots * shape->G * shape->D);
    e.gate = th_numbers(kind, seed + 6, shape->H);
    return e;
}

static inline struct example example_of(const struct shape *shape, enum th_kind kind, uint64_t seed)
{
    return example_with(shape, &(struct sight){0}, kind, seed);
}

static inline void example_release(struct example *e)
{
    free(e->q);
    free(e->k);
    free(e->v);
    free(e->dout);
    free(e->slots_k);
    free(e->slots_v);
    free(e->gate);
}

/* A tensor that the call may do without. */
static inline struct hb_tensor if_wanted(struct hb_context *c, bool wanted, int64_t n, int64_t heads,
                                         int64_t D, const float *host)
{
    return wanted ? th_3d(c, th_real(c), n, heads, D, host) : (struct hb_tensor){0};
}

static inline bool in_two(const struct sight *s)
{
    return s->combine != HB_JOINT;
}

static inline struct hb_attention_forward_args forward_args(struct hb_context *c, const struct example *e)
{
    const struct shape *s = &e->shape;
    const struct sight *g = &e->sight;
    enum hb_dtype real = th_real(c);
    return (struct hb_attention_forward_args){
        .q = th_3d(c, real, e->n, s->H, s->D, e->q),
        .k = th_3d(c, real, e->m, s->G, s->D, e->k),
        .v = th_3d(c, real, e->m, s->G, s->D, e->v),
        .q_begin = th_1d(c, HB_I32, s->segments + 1, e->q_begin),
        .k_begin = th_1d(c, HB_I32, s->segments + 1, e->k_begin),
        .longest = e->longest,
        .scale = e->scale,
        .bidirectional = g->bidirectional,
        .window = g->window,
        .sinks = g->sinks,
        .ring = g->ring,
        .combine = g->combine,
        .slots_k = if_wanted(c, g->slots > 0, g->slots, s->G, s->D, e->slots_k),
        .slots_v = if_wanted(c, g->slots > 0, g->slots, s->G, s->D, e->slots_v),
        .gate = g->combine == HB_GATED ? th_1d(c, real, s->H, e->gate) : (struct hb_tensor){0},
        .out = th_3d(c, real, e->n, s->H, s->D, NULL),
        .lse = th_2d(c, real, e->n, s->H, NULL),
        .rest_out = if_wanted(c, in_two(g), e->n, s->H, s->D, NULL),
        .slots_out = if_wanted(c, in_two(g), e->n, s->H, s->D, NULL),
        .slots_lse = in_two(g) ? th_2d(c, real, e->n, s->H, NULL) : (struct hb_tensor){0},
    };
}

static inline void forward_free(struct hb_context *c, struct hb_attention_forward_args *f)
{
    struct hb_tensor *all[] = {&f->q,        &f->k,         &f->v,        &f->q_begin, &f->k_begin,
                               &f->slots_k,  &f->slots_v,   &f->gate,     &f->out,     &f->lse,
                               &f->rest_out, &f->slots_out, &f->slots_lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->home)
            th_free(c, all[i]);
}

static inline struct hb_attention_backward_args backward_args(struct hb_context *c, const struct example *e,
                                                              const struct hb_attention_forward_args *f)
{
    const struct shape *s = &e->shape;
    const struct sight *g = &e->sight;
    enum hb_dtype real = th_real(c);
    return (struct hb_attention_backward_args){
        .q = f->q,
        .k = f->k,
        .v = f->v,
        .q_begin = f->q_begin,
        .k_begin = f->k_begin,
        .longest = f->longest,
        .scale = f->scale,
        .bidirectional = f->bidirectional,
        .window = f->window,
        .sinks = f->sinks,
        .combine = f->combine,
        .slots_k = f->slots_k,
        .slots_v = f->slots_v,
        .gate = f->gate,
        .out = in_two(g) ? f->rest_out : f->out,
        .lse = f->lse,
        .slots_out = f->slots_out,
        .slots_lse = f->slots_lse,
        .dout = th_3d(c, real, e->n, s->H, s->D, e->dout),
        .dq = th_3d(c, real, e->n, s->H, s->D, NULL),
        .dk = th_3d(c, real, e->m, s->G, s->D, NULL),
        .dv = th_3d(c, real, e->m, s->G, s->D, NULL),
        .dslots_k = if_wanted(c, g->slots > 0, g->slots, s->G, s->D, NULL),
        .dslots_v = if_wanted(c, g->slots > 0, g->slots, s->G, s->D, NULL),
        .dgate = g->combine == HB_GATED ? th_1d(c, real, s->H, NULL) : (struct hb_tensor){0},
    };
}

static inline void backward_free(struct hb_context *c, struct hb_attention_backward_args *b)
{
    struct hb_tensor *all[] = {&b->dout, &b->dq, &b->dk, &b->dv, &b->dslots_k, &b->dslots_v, &b->dgate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->home)
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
    if (in_two(&e->sight)) {
        th_keep(out, c, "rest_out", f.rest_out);
        th_keep(out, c, "slots_out", f.slots_out);
        th_keep(out, c, "slots_lse", f.slots_lse);
    }
    if (e->backward) {
        struct hb_attention_backward_args b = backward_args(c, e, &f);
        TH_OK(hb_attention_backward(c, &b));
        TH_OK(hb_sync(c));
        th_keep(out, c, "dq", b.dq);
        th_keep(out, c, "dk", b.dk);
        th_keep(out, c, "dv", b.dv);
        if (e->sight.slots > 0) {
            th_keep(out, c, "dslots_k", b.dslots_k);
            th_keep(out, c, "dslots_v", b.dslots_v);
        }
        if (e->sight.combine == HB_GATED)
            th_keep(out, c, "dgate", b.dgate);
        backward_free(c, &b);
    }
    forward_free(c, &f);
}

static inline struct th_outputs run_on(const struct hb_backend *backend, const struct example *e)
{
    struct hb_context c;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(backend, HB_CANONICAL, 2, &c));
    run(&c, e, &out);
    hb_context_close(&c);
    return out;
}

/* Runs on the best cpu level with two threads. */
static inline struct th_outputs run_fast(const struct example *e)
{
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    return run_on(cpu, e);
}

/* Loss = sum of out dout, as a function of one input. */
struct attention_probe {
    struct hb_context context;
    struct hb_attention_forward_args f;
    struct hb_tensor *input;
    double *x;
    const double *weight;
};

static inline double attention_loss(void *data)
{
    struct attention_probe *p = data;
    th_put(&p->context, *p->input, p->x);
    TH_OK(hb_attention_forward(&p->context, &p->f));
    double *out = th_doubles(&p->context, p->f.out), sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&p->f.out); i++)
        sum += out[i] * p->weight[i];
    free(out);
    return sum;
}

/* Every gradient of an example against central differences, in double. */
static inline void th_check_gradients_of(struct example e)
{
    struct attention_probe p = {0};
    th_open_double(&p.context);
    p.f = forward_args(&p.context, &e);
    TH_OK(hb_attention_forward(&p.context, &p.f));
    struct hb_attention_backward_args b = backward_args(&p.context, &e, &p.f);
    TH_OK(hb_attention_backward(&p.context, &b));
    double *weight = th_doubles(&p.context, b.dout);
    p.weight = weight;
    static const char *const names[] = {"dq", "dk", "dv", "dslots_k", "dslots_v", "dgate"};
    struct hb_tensor *inputs[] = {&p.f.q, &p.f.k, &p.f.v, &p.f.slots_k, &p.f.slots_v, &p.f.gate};
    struct hb_tensor *gradients[] = {&b.dq, &b.dk, &b.dv, &b.dslots_k, &b.dslots_v, &b.dgate};
    for (int g = 0; g < 6; g++) {
        if (!inputs[g]->data)
            continue;
        double *dx = th_doubles(&p.context, *gradients[g]);
        p.input = inputs[g];
        p.x = th_doubles(&p.context, *p.input);
        th_check_gradient(names[g], attention_loss, &p, p.x, dx, hb_tensor_count(p.input));
        th_put(&p.context, *p.input, p.x);
        free(p.x);
        free(dx);
    }
    free(weight);
    backward_free(&p.context, &b);
    forward_free(&p.context, &p.f);
    hb_context_close(&p.context);
    example_release(&e);
}

#endif
