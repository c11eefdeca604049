/* The recurrences of numerics.md rules 12 and 13, word by word. Scores are
 * computed again wherever they are needed: this text is for reading. */
#include "ops/attention.h"

#include "ref/ref.h"

enum { TILE = 64, CHAIN = 256 };

/* One query head of one segment. Positions count from the segment's key 0. */
struct head {
    int64_t q_row;         /* row of q that stands at position `first` */
    int64_t k_row;         /* row of k at position 0 */
    int64_t first, length; /* queries stand at first .. length - 1, keys at 0 .. length - 1 */
    int64_t h, H, g, G, D; /* query head of H, its key/value head of G, head width */
};

static struct head head_of(const struct hb_tensor *q, const struct hb_tensor *k,
                           const struct hb_tensor *q_begin, const struct hb_tensor *k_begin, int64_t segment,
                           int64_t h)
{
    const int32_t *qb = (const int32_t *)q_begin->data + segment,
                  *kb = (const int32_t *)k_begin->data + segment;
    int64_t H = q->shape[1], G = k->shape[1];
    int64_t length = kb[1] - kb[0];
    return (struct head){.q_row = qb[0],
                         .k_row = kb[0],
                         .first = length - (qb[1] - qb[0]),
                         .length = length,
                         .h = h,
                         .H = H,
                         .g = h / (H / G),
                         .G = G,
                         .D = q->shape[2]};
}

/* Element 0 of the query at position i in tensors shaped as q; its entry in lse. */
static int64_t query_at(const struct head *s, int64_t i)
{
    return ((s->q_row + i - s->first) * s->H + s->h) * s->D;
}

static int64_t lse_at(const struct head *s, int64_t i)
{
    return (s->q_row + i - s->first) * s->H + s->h;
}

/* Element 0 of the key at position j in tensors shaped as k. */
static int64_t key_at(const struct head *s, int64_t j)
{
    return ((s->k_row + j) * s->G + s->g) * s->D;
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

/* Row of `out` and entry of `lse` for the query at position i; O is workspace [D]. */
static void forward_row(const struct hb_attention_forward_args *args, const struct head *s, int64_t i,
                        real *O)
{
    real m = -(real)INFINITY, l = 0;
    for (int64_t d = 0; d < s->D; d++)
        O[d] = 0;
    for (int64_t tile = 0; tile <= i; tile += TILE) {
        int64_t keys = smaller(TILE, i + 1 - tile); /* those that the query sees */
        real score[TILE], p[TILE] = {0}, lane[32] = {0};
        real highest = m;
        for (int64_t j = 0; j < keys; j++) {
            score[j] =
                (real)args->scale * inner(&args->q, query_at(s, i), &args->k, key_at(s, tile + j), s->D);
            highest = larger(score[j], highest);
        }
        real a = real_exp(m - shift(highest));
        for (int64_t j = 0; j < keys; j++)
            p[j] = real_exp(score[j] - shift(highest));
        for (int64_t j = 0; j < TILE; j++)
            lane[j % 32] = lane[j % 32] + p[j];
        m = highest;
        l = real_fma(a, l, lanes_sum(lane));
        for (int64_t d = 0; d < s->D; d++) {
            real o = 0;
            for (int64_t j = 0; j < keys; j++)
                o = real_fma(p[j], load(&args->v, key_at(s, tile + j) + d), o);
            O[d] = real_fma(a, O[d], o);
        }
    }
    for (int64_t d = 0; d < s->D; d++)
        store(&args->out, query_at(s, i) + d, l == 0 ? 0 : O[d] / l + (real)0);
    store(&args->lse, lse_at(s, i), l == 0 ? -(real)INFINITY : m + real_log(l));
}

hb_status HB_REF(attention_forward)(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    void *O;
    HB_TRY(hb_host_workspace(context, (size_t)args->q.shape[2] * sizeof(real), &O));
    for (int64_t segment = 0; segment + 1 < args->q_begin.shape[0]; segment++)
        for (int64_t h = 0; h < args->q.shape[1]; h++) {
            struct head s = head_of(&args->q, &args->k, &args->q_begin, &args->k_begin, segment, h);
            for (int64_t i = s.first; i < s.length; i++)
                forward_row(args, &s, i, O);
        }
    return HB_OK;
}

/* P and dS of the pair of query i and key j. */
struct pair {
    real p, ds;
};

static struct pair pair_of(const struct hb_attention_backward_args *args, const struct head *s, int64_t i,
                           int64_t j)
{
    int64_t at_q = query_at(s, i), at_k = key_at(s, j);
    real score = (real)args->scale * inner(&args->q, at_q, &args->k, at_k, s->D);
    real p = real_exp(score - shift(load(&args->lse, lse_at(s, i))));
    real dp = inner(&args->dout, at_q, &args->v, at_k, s->D);
    return (struct pair){p, p * (dp - dot(&args->dout, &args->out, at_q, s->D))};
}

/* dQ of the query at position i: keys ascending, tile sums added ascending. */
static void backward_query(const struct hb_attention_backward_args *args, const struct head *s, int64_t i,
                           struct pair *pair)
{
    for (int64_t j = 0; j <= i; j++)
        pair[j] = pair_of(args, s, i, j);
    for (int64_t d = 0; d < s->D; d++) {
        real total = 0;
        for (int64_t tile = 0; tile <= i; tile += TILE) {
            real dq = 0;
            for (int64_t j = tile; j <= i && j < tile + TILE; j++)
                dq = real_fma(pair[j].ds, load(&args->k, key_at(s, j) + d), dq);
            total = tile == 0 ? dq : total + dq;
        }
        store(&args->dq, query_at(s, i) + d, (real)args->scale * total + (real)0);
    }
}

/* Adds to dk and dv [D] what query head s gives the key at position j: tiles of
 * queries ascending, queries ascending in each. */
static void backward_key(const struct hb_attention_backward_args *args, const struct head *s, int64_t j,
                         struct pair *pair, real *dk, real *dv)
{
    for (int64_t i = j; i < s->length; i++)
        pair[i] = pair_of(args, s, i, j);
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t tile = j / TILE * TILE; tile < s->length; tile += TILE) {
            real tile_dk = 0, tile_dv = 0;
            for (int64_t i = tile < j ? j : tile; i < s->length && i < tile + TILE; i++) {
                tile_dk = real_fma(pair[i].ds, load(&args->q, query_at(s, i) + d), tile_dk);
                tile_dv = real_fma(pair[i].p, load(&args->dout, query_at(s, i) + d), tile_dv);
            }
            dk[d] = dk[d] + tile_dk;
            dv[d] = dv[d] + tile_dv;
        }
}

hb_status HB_REF(attention_backward)(struct hb_context *context,
                                     const struct hb_attention_backward_args *args)
{
    int64_t H = args->q.shape[1], G = args->k.shape[1], D = args->q.shape[2];
    int64_t segments = args->q_begin.shape[0] - 1, longest = 0;
    for (int64_t t = 0; t < segments; t++) {
        struct head s = head_of(&args->q, &args->k, &args->q_begin, &args->k_begin, t, 0);
        longest = s.length > longest ? s.length : longest;
    }
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)longest * sizeof(struct pair) + 2 * (size_t)D * sizeof(real),
                             &workspace));
    struct pair *pair = workspace;
    real *dk = (real *)(pair + longest), *dv = dk + D;
    for (int64_t i = 0; i < hb_tensor_count(&args->dk); i++) { /* rows that no segment owns */
        store(&args->dk, i, 0);
        store(&args->dv, i, 0);
    }
    for (int64_t t = 0; t < segments; t++)
        for (int64_t g = 0; g < G; g++) {
            struct head s = head_of(&args->q, &args->k, &args->q_begin, &args->k_begin, t, g * (H / G));
            for (; s.h < (g + 1) * (H / G); s.h++)
                for (int64_t i = 0; i < s.length; i++)
                    backward_query(args, &s, i, pair);
            for (int64_t j = 0; j < s.length; j++) {
                /* From +0: not starting with the first differs in signs of zeros only, which + 0 ends. */
                for (int64_t d = 0; d < D; d++)
                    dk[d] = dv[d] = 0;
                for (s.h = g * (H / G); s.h < (g + 1) * (H / G); s.h++)
                    backward_key(args, &s, j, pair, dk, dv);
                for (int64_t d = 0; d < D; d++) {
                    store(&args->dk, key_at(&s, j) + d, (real)args->scale * dk[d] + (real)0);
                    store(&args->dv, key_at(&s, j) + d, dv[d] + (real)0);
                }
            }
        }
    return HB_OK;
}
