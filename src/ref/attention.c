/* The recurrences of numerics.md rules 12 and 13, word by word. Scores are
 * computed again wherever they are needed: this text is for reading. */
#include "ops/attention.h"

#include "ref/ref.h"

enum { TILE = 64, CHAIN = 256, CHUNK = 64 };

/* What forward and backward have in common. */
struct call {
    const struct hb_tensor *q, *k, *v, *q_begin, *k_begin, *slots_k, *slots_v;
    int64_t segments, H, G, D;
    int64_t slots; /* M */
    int64_t window, sinks, ring;
    bool bidirectional;
    real scale;
};

/* One query head of one segment. Positions count from the segment's key 0. */
struct head {
    int64_t q_row;         /* row of q that stands at position `first` */
    int64_t k_row;         /* row of k at position 0 */
    int64_t first, length; /* queries stand at first .. length - 1, keys at 0 .. length - 1 */
    int64_t h, g;          /* query head, its key/value head */
};

static struct call call_of(const struct hb_tensor *q, const struct hb_tensor *k,
                           const struct hb_tensor *q_begin, const struct hb_tensor *slots_k)
{
    return (struct call){.q = q,
                         .k = k,
                         .q_begin = q_begin,
                         .segments = q_begin->shape[0] - 1,
                         .H = q->shape[1],
                         .G = k->shape[1],
                         .D = q->shape[2],
                         .slots = slots_k->data ? slots_k->shape[0] : 0};
}

static struct head head_of(const struct call *c, int64_t segment, int64_t h)
{
    const int32_t *qb = (const int32_t *)c->q_begin->data + segment;
    const int32_t *kb = (const int32_t *)c->k_begin->data + segment;
    int64_t length = kb[1] - kb[0];
    return (struct head){.q_row = qb[0],
                         .k_row = c->ring ? segment * c->ring : kb[0],
                         .first = length - (qb[1] - qb[0]),
                         .length = length,
                         .h = h,
                         .g = h / (c->H / c->G)};
}

/* The entry of the query at position i in lse; times D, its element 0 in tensors shaped as q. */
static int64_t query_at(const struct call *c, const struct head *s, int64_t i)
{
    return (s->q_row + i - s->first) * c->H + s->h;
}

/* A recurrence runs over slots, and over keys: element 0 of number j. */
static int64_t key_at(const struct call *c, const struct head *s, bool slots, int64_t j)
{
    if (c->ring && !slots && j >= c->sinks)
        j = c->sinks + (j - c->sinks) % (c->ring - c->sinks);
    return ((slots ? j : s->k_row + j) * c->G + s->g) * c->D;
}

static bool sees(const struct call *c, bool slots, int64_t i, int64_t j)
{
    if (slots)
        return true;
    if (j > i && !c->bidirectional)
        return false;
    return c->window == 0 || j < c->sinks || (i - j < c->window && j - i < c->window);
}

static bool sees_any(const struct call *c, bool slots, int64_t i, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j++)
        if (sees(c, slots, i, j))
            return true;
    return false;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rule 1: chains of 256, chain sums added ascending. */
static real inner(const struct hb_tensor *a, int64_t at_a, const struct hb_tensor *b, int64_t at_b, int64_t D)
{
    real total = 0;
    for (int64_t begin = 0; begin < D; begin += CHAIN) {
        real chain = 0;
        for (int64_t d = begin; d < D && d < begin + CHAIN; d++)
            chain = real_fma(load(a, at_a + d), load(b, at_b + d), chain);
        total = begin == 0 ? chain : total + chain;
    }
    return total;
}

/* Rule 3: 32 lanes and a tree. */
static real dot(const struct hb_tensor *a, const struct hb_tensor *b, int64_t at, int64_t D)
{
    real lane[32] = {0};
    for (int64_t d = 0; d < D; d++)
        lane[d % 32] = real_fma(load(a, at + d), load(b, at + d), lane[d % 32]);
    return lanes_sum(lane);
}

/* Rule 5: a NaN is the maximum of whatever it meets. */
static real larger(real a, real b)
{
    return a > b || a != a ? a : b;
}

/* -inf - (-inf) would be NaN: a row that has seen nothing but -inf keeps p = 0. */
static real shift(real maximum)
{
    return maximum == -(real)INFINITY ? 0 : maximum;
}

/* The state of one query's recurrence; O is [D]. */
struct state {
    real m, l, *O;
};

static void begin(const struct call *c, struct state *x)
{
    x->m = -(real)INFINITY;
    x->l = 0;
    for (int64_t d = 0; d < c->D; d++)
        x->O[d] = 0;
}

/* Passes over all slots or all keys of the query at position i. */
static void pass(const struct call *c, const struct head *s, int64_t i, bool slots, struct state *x)
{
    const struct hb_tensor *k = slots ? c->slots_k : c->k, *v = slots ? c->slots_v : c->v;
    int64_t count = slots ? c->slots : s->length;
    for (int64_t tile = 0; tile < count; tile += TILE) {
        int64_t keys = smaller(TILE, count - tile);
        if (!sees_any(c, slots, i, tile, tile + keys))
            continue;
        real score[TILE], p[TILE] = {0}, lane[32] = {0};
        real highest = x->m;
        for (int64_t j = 0; j < keys; j++)
            if (sees(c, slots, i, tile + j)) {
                score[j] = c->scale *
                           inner(c->q, query_at(c, s, i) * c->D, k, key_at(c, s, slots, tile + j), c->D);
                highest = larger(score[j], highest);
            }
        real a = real_exp(x->m - shift(highest));
        for (int64_t j = 0; j < keys; j++)
            if (sees(c, slots, i, tile + j))
                p[j] = real_exp(score[j] - shift(highest));
        for (int64_t j = 0; j < TILE; j++)
            lane[j % 32] = lane[j % 32] + p[j];
        x->m = highest;
        x->l = real_fma(a, x->l, lanes_sum(lane));
        for (int64_t d = 0; d < c->D; d++) {
            real o = 0;
            for (int64_t j = 0; j < keys; j++)
                if (sees(c, slots, i, tile + j))
                    o = real_fma(p[j], load(v, key_at(c, s, slots, tile + j) + d), o);
            x->O[d] = real_fma(a, x->O[d], o);
        }
    }
}

static void end(const struct call *c, const struct state *x, const struct hb_tensor *out,
                const struct hb_tensor *lse, int64_t at)
{
    for (int64_t d = 0; d < c->D; d++)
        store(out, at * c->D + d, x->l == 0 ? 0 : x->O[d] / x->l + (real)0);
    store(lse, at, x->l == 0 ? -(real)INFINITY : x->m + real_log(x->l));
}

static void forward_row(const struct hb_attention_forward_args *args, const struct call *c,
                        const struct head *s, int64_t i, struct state *x)
{
    int64_t at = query_at(c, s, i);
    begin(c, x);
    pass(c, s, i, true, x);
    if (args->combine == HB_JOINT) {
        pass(c, s, i, false, x);
        end(c, x, &args->out, &args->lse, at);
        return;
    }
    end(c, x, &args->slots_out, &args->slots_lse, at);
    begin(c, x);
    pass(c, s, i, false, x);
    end(c, x, &args->rest_out, &args->lse, at);
    real w = args->combine == HB_GATED ? real_sigmoid(load(&args->gate, s->h)) : 0;
    for (int64_t d = at * c->D; d < (at + 1) * c->D; d++) {
        real slots = load(&args->slots_out, d), rest = load(&args->rest_out, d);
        store(&args->out, d, args->combine == HB_GATED ? real_fma(w, slots, (1 - w) * rest) : slots + rest);
    }
}

hb_status HB_REF(attention_forward)(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    struct call c = call_of(&args->q, &args->k, &args->q_begin, &args->slots_k);
    c.v = &args->v;
    c.k_begin = &args->k_begin;
    c.slots_k = &args->slots_k;
    c.slots_v = &args->slots_v;
    c.window = args->window;
    c.sinks = args->sinks;
    c.ring = args->ring;
    c.bidirectional = args->bidirectional;
    c.scale = (real)args->scale;
    void *O;
    HB_TRY(hb_host_workspace(context, (size_t)c.D * sizeof(real), &O));
    struct state x = {.O = O};
    for (int64_t segment = 0; segment < c.segments; segment++)
        for (int64_t h = 0; h < c.H; h++) {
            struct head s = head_of(&c, segment, h);
            for (int64_t i = s.first; i < s.length; i++)
                forward_row(args, &c, &s, i, &x);
        }
    return HB_OK;
}

/* --- backward --- */

/* P and dS of a query and a key. */
struct pair {
    real p, ds;
};

/* Workspace. */
struct work {
    struct pair *pair;   /* [as many as keys, queries or slots] */
    real *dk, *dv;       /* [D] */
    real *leaf_k, *leaf_v; /* [D, chunks of segments] */
    int64_t chunks;
};

static real weight_of_slots(const struct hb_attention_backward_args *args, int64_t h)
{
    return real_sigmoid(load(&args->gate, h));
}

/* D of the recurrence that ran over slots, or over keys. */
static real delta(const struct hb_attention_backward_args *args, const struct call *c, int64_t at, bool slots)
{
    bool own = slots && args->combine != HB_JOINT;
    return dot(&args->dout, own ? &args->slots_out : &args->out, at * c->D, c->D);
}

static struct pair pair_of(const struct hb_attention_backward_args *args, const struct call *c,
                           const struct head *s, int64_t i, bool slots, int64_t j)
{
    int64_t at = query_at(c, s, i), at_k = key_at(c, s, slots, j);
    bool own = slots && args->combine != HB_JOINT;
    real score = c->scale * inner(c->q, at * c->D, slots ? c->slots_k : c->k, at_k, c->D);
    real p = real_exp(score - shift(load(own ? &args->slots_lse : &args->lse, at)));
    if (args->combine == HB_GATED) {
        real w = weight_of_slots(args, s->h);
        p = (slots ? w : 1 - w) * p;
    }
    real dp = inner(&args->dout, at * c->D, slots ? c->slots_v : c->v, at_k, c->D);
    return (struct pair){p, p * (dp - delta(args, c, at, slots))};
}

/* Adds to total [D] what the slots, or the keys, give dQ of the query at position i. */
static void backward_query(const struct hb_attention_backward_args *args, const struct call *c,
                           const struct head *s, int64_t i, bool slots, const struct work *w, real *total)
{
    const struct hb_tensor *k = slots ? c->slots_k : c->k;
    int64_t count = slots ? c->slots : s->length;
    for (int64_t j = 0; j < count; j++)
        if (sees(c, slots, i, j))
            w->pair[j] = pair_of(args, c, s, i, slots, j);
    for (int64_t d = 0; d < c->D; d++)
        for (int64_t tile = 0; tile < count; tile += TILE) {
            real dq = 0;
            for (int64_t j = tile; j < count && j < tile + TILE; j++)
                if (sees(c, slots, i, j))
                    dq = real_fma(w->pair[j].ds, load(k, key_at(c, s, slots, j) + d), dq);
            /* From +0, and skipped tiles with it: only signs of zeros differ, which + 0 ends. */
            total[d] = total[d] + dq;
        }
}

/* dk and dv [D] of key or slot j in one segment: the query heads of its group
 * ascending, tiles of queries ascending, queries ascending in each. */
static void backward_key(const struct hb_attention_backward_args *args, const struct call *c, int64_t segment,
                         int64_t g, bool slots, int64_t j, const struct work *w)
{
    for (int64_t d = 0; d < c->D; d++)
        w->dk[d] = w->dv[d] = 0;
    for (int64_t h = g * (c->H / c->G); h < (g + 1) * (c->H / c->G); h++) {
        struct head s = head_of(c, segment, h);
        for (int64_t i = 0; i < s.length; i++)
            if (sees(c, slots, i, j))
                w->pair[i] = pair_of(args, c, &s, i, slots, j);
        for (int64_t d = 0; d < c->D; d++)
            for (int64_t tile = 0; tile < s.length; tile += TILE) {
                real tile_dk = 0, tile_dv = 0;
                for (int64_t i = tile; i < s.length && i < tile + TILE; i++)
                    if (sees(c, slots, i, j)) {
                        int64_t at = query_at(c, &s, i) * c->D + d;
                        tile_dk = real_fma(w->pair[i].ds, load(&args->q, at), tile_dk);
                        tile_dv = real_fma(w->pair[i].p, load(&args->dout, at), tile_dv);
                    }
                w->dk[d] = w->dk[d] + tile_dk;
                w->dv[d] = w->dv[d] + tile_dv;
            }
    }
    for (int64_t d = 0; d < c->D; d++) {
        w->dk[d] = c->scale * w->dk[d] + (real)0;
        w->dv[d] = w->dv[d] + (real)0;
    }
}

/* Rule 4 over the segments: `leaf` holds a sequential sum per chunk of 64. */
static void add_segment(real *leaf, int64_t segment, real x)
{
    real *sum = leaf + segment / CHUNK;
    *sum = segment % CHUNK == 0 ? x : *sum + x;
}

static void backward_slot(const struct hb_attention_backward_args *args, const struct call *c, int64_t g,
                          int64_t j, const struct work *w)
{
    for (int64_t segment = 0; segment < c->segments; segment++) {
        backward_key(args, c, segment, g, true, j, w);
        for (int64_t d = 0; d < c->D; d++) {
            add_segment(w->leaf_k + d * w->chunks, segment, w->dk[d]);
            add_segment(w->leaf_v + d * w->chunks, segment, w->dv[d]);
        }
    }
    for (int64_t d = 0; d < c->D; d++) {
        store(&args->dslots_k, (j * c->G + g) * c->D + d,
              real_tree_sum(w->leaf_k + d * w->chunks, w->chunks));
        store(&args->dslots_v, (j * c->G + g) * c->D + d,
              real_tree_sum(w->leaf_v + d * w->chunks, w->chunks));
    }
}

static void backward_gate(const struct hb_attention_backward_args *args, const struct call *c, int64_t h,
                          const struct work *work)
{
    real w = weight_of_slots(args, h);
    for (int64_t segment = 0; segment < c->segments; segment++) {
        struct head s = head_of(c, segment, h);
        real total = 0;
        for (int64_t tile = 0; tile < s.length; tile += TILE) {
            real sum = 0;
            for (int64_t i = tile; i < s.length && i < tile + TILE; i++) {
                int64_t at = query_at(c, &s, i);
                sum = sum + (delta(args, c, at, true) - delta(args, c, at, false));
            }
            total = total + sum;
        }
        add_segment(work->leaf_k, segment, w * (1 - w) * total + (real)0);
    }
    store(&args->dgate, h, real_tree_sum(work->leaf_k, work->chunks));
}

static void backward_all(const struct hb_attention_backward_args *args, const struct call *c,
                         const struct work *w)
{
    for (int64_t i = 0; i < hb_tensor_count(&args->dk); i++) { /* rows that no segment owns */
        store(&args->dk, i, 0);
        store(&args->dv, i, 0);
    }
    for (int64_t t = 0; t < c->segments; t++) {
        struct head s = head_of(c, t, 0);
        for (s.h = 0; s.h < c->H; s.h++)
            for (int64_t i = 0; i < s.length; i++) {
                s.g = s.h / (c->H / c->G);
                real *dq = w->dk;
                for (int64_t d = 0; d < c->D; d++)
                    dq[d] = 0;
                backward_query(args, c, &s, i, true, w, dq);
                backward_query(args, c, &s, i, false, w, dq);
                for (int64_t d = 0; d < c->D; d++)
                    store(&args->dq, query_at(c, &s, i) * c->D + d, c->scale * dq[d] + (real)0);
            }
        for (s.g = 0; s.g < c->G; s.g++)
            for (int64_t j = 0; j < s.length; j++) {
                backward_key(args, c, t, s.g, false, j, w);
                for (int64_t d = 0; d < c->D; d++) {
                    store(&args->dk, key_at(c, &s, false, j) + d, w->dk[d]);
                    store(&args->dv, key_at(c, &s, false, j) + d, w->dv[d]);
                }
            }
    }
    for (int64_t g = 0; g < c->G; g++)
        for (int64_t j = 0; j < c->slots; j++)
            backward_slot(args, c, g, j, w);
    for (int64_t h = 0; args->combine == HB_GATED && h < c->H; h++)
        backward_gate(args, c, h, w);
}

hb_status HB_REF(attention_backward)(struct hb_context *context,
                                     const struct hb_attention_backward_args *args)
{
    struct call c = call_of(&args->q, &args->k, &args->q_begin, &args->slots_k);
    c.v = &args->v;
    c.k_begin = &args->k_begin;
    c.slots_k = &args->slots_k;
    c.slots_v = &args->slots_v;
    c.window = args->window;
    c.sinks = args->sinks;
    c.bidirectional = args->bidirectional;
    c.scale = (real)args->scale;
    int64_t pairs = c.slots;
    for (int64_t t = 0; t < c.segments; t++) {
        int64_t length = head_of(&c, t, 0).length;
        pairs = length > pairs ? length : pairs;
    }
    struct work w = {.chunks = (c.segments + CHUNK - 1) / CHUNK};
    size_t numbers = (size_t)(2 * c.D * (1 + w.chunks));
    void *workspace;
    HB_TRY(
        hb_host_workspace(context, (size_t)pairs * sizeof(struct pair) + numbers * sizeof(real), &workspace));
    w.pair = workspace;
    w.dk = (real *)(w.pair + pairs);
    w.dv = w.dk + c.D;
    w.leaf_k = w.dv + c.D;
    w.leaf_v = w.leaf_k + c.D * w.chunks;
    backward_all(args, &c, &w);
    return HB_OK;
}
