/* The gradients that a tile of keys and a tile of queries give each other: the
 * tile's part of dK, dV and dQ, with S and dP computed once for all three. */
#ifndef HB_CPU_ATTENTION_GRADIENT_H
#define HB_CPU_ATTENTION_GRADIENT_H

#include <sched.h>

#include "cpu/attention_packed.h"
#include "cpu/exp.h"

enum { TILES = 2, BLOCK = TILES * TILE };

/* A tile of keys; [PADDED] rows each. */
struct keys {
    float *k, *v, *dk, *dv;
};

struct scratch {
    struct keys tile[TILES];
    float *q, *dout; /* [PADDED] rows: a tile of queries */
    float *dq;       /* [PADDED] rows: what one tile of keys adds to it */
    float *p, *ds;   /* [PADDED,SCORES]: S^T, dP^T, then P^T, dS^T */
};

static inline struct scratch scratch_in(char **at, size_t *used, int64_t D)
{
    size_t rows = (size_t)(PADDED * row_stride(D)) * sizeof(float), scores = PADDED * SCORES * sizeof(float);
    struct scratch w;
    for (int t = 0; t < TILES; t++) {
        w.tile[t].k = take(at, used, rows);
        w.tile[t].v = take(at, used, rows);
        w.tile[t].dk = take(at, used, rows);
        w.tile[t].dv = take(at, used, rows);
    }
    w.q = take(at, used, rows);
    w.dout = take(at, used, rows);
    w.dq = take(at, used, rows);
    w.p = take(at, used, scores);
    w.ds = take(at, used, scores);
    return w;
}

INLINE void key_gradient_rows(int n, const float *a, const float *b, int64_t stride, int64_t r,
                              int64_t queries, const struct pairs *pairs, float *out)
{
    vec acc[ROWS][2];
    bool diagonal = pairs->seen == DIAGONAL;
    if (pairs->seen == SOME)
        some_rows(acc, n, a, SCORES, 1, b, stride, pairs->key_bits, queries, r);
    else
        key_rows(acc, n, a, b, stride, diagonal ? r : 0, queries, diagonal);
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
    for (int c = 0; c < n; c++) {
        float *at = out + i * stride + c * VEC_WIDTH;
        vec_store(at, vec_add(vec_load(at), acc[i][c]));
    }
}

/* dV += P^T dO; dK += dS^T Q */
static inline void key_gradient(const float *a, const float *b, int64_t D, int64_t queries,
                                const struct pairs *pairs, float *out)
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = 0; r < pairs->keys; r += ROWS) {
            const float *row = a + r * SCORES;
            if (c + VEC_WIDTH < D)
                key_gradient_rows(2, row, b + c, stride, r, queries, pairs, out + r * stride + c);
            else
                key_gradient_rows(1, row, b + c, stride, r, queries, pairs, out + r * stride + c);
        }
}

INLINE void query_gradient_rows(int n, const float *a, const float *b, int64_t stride, int64_t r,
                                const struct pairs *pairs, float *out)
{
    vec acc[ROWS][2];
    bool diagonal = pairs->seen == DIAGONAL;
    if (pairs->seen == SOME)
        some_rows(acc, n, a, 1, SCORES, b, stride, pairs->query_bits, pairs->keys, r);
    else
        query_rows(acc, n, a, b, stride, diagonal ? r + 1 : pairs->keys, diagonal);
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
    for (int c = 0; c < n; c++)
        vec_store(out + i * stride + c * VEC_WIDTH, acc[i][c]);
}

/* dQ of this tile of keys = dS K */
static inline void query_gradient(const float *a, const float *b, int64_t D, int64_t queries,
                                  const struct pairs *pairs, float *out)
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = 0; r < queries; r += ROWS) {
            if (c + VEC_WIDTH < D)
                query_gradient_rows(2, a + r, b + c, stride, r, pairs, out + r * stride + c);
            else
                query_gradient_rows(1, a + r, b + c, stride, r, pairs, out + r * stride + c);
        }
}

static inline void wait_for_turn(atomic_int *turn, int mine)
{
    for (int spins = 1; atomic_load_explicit(turn, memory_order_acquire) != mine; spins++)
        if (spins % 1024 == 0)
            sched_yield();
}

/* What a tile of keys is to a tile of queries. */
struct visit {
    int which;      /* 0: keys, 1: slots */
    int buffer;     /* its place among the tiles of the piece */
    int64_t number; /* among the tiles that the queries see */
    bool last;
    struct pairs pairs;
};

/* Adds the tile's dQ when it is its turn. */
static inline void hand_on(const struct call *call, const struct queries *q, const struct visit *visit,
                           const float *tile)
{
    int64_t D = call->z.D, stride = call->z.H * D;
    const struct hb_tensor *dq = &call->args->dq;
    float scale = call->args->scale;
    wait_for_turn(q->turn, (int)visit->number);
    for (int64_t i = 0; i < q->count; i++) {
        const float *from = tile + i * row_stride(D);
        float *to = q->dq + i * stride;
        for (int64_t d = 0; d < D; d++) {
            float total = visit->number == 0 ? from[d] : to[d] + from[d];
            to[d] = visit->last ? scale * total + 0.0f : total;
        }
        if (visit->last && dq->dtype != HB_F32)
            hb_narrow(dq->dtype, to, D, dq->data, to - call->packed.dq);
    }
    atomic_store_explicit(q->turn, (int)visit->number + 1, memory_order_release);
}

/* Scores to P, dP to dS, of one key and `count` queries, a multiple of the register's width. */
static inline void probabilities(float *restrict p, float *restrict ds, float weight,
                                 const float *restrict shift, const float *restrict delta, int64_t count)
{
    vec factor = vec_set1(weight);
    for (int64_t i = 0; i < count; i += VEC_WIDTH) {
        vec x = vec_mul(factor, vec_exp(vec_sub(vec_load(p + i), vec_load(shift + i))));
        vec_store(p + i, x);
        vec_store(ds + i, vec_mul(x, vec_sub(vec_load(ds + i), vec_load(delta + i))));
    }
}

/* One query head's part of the gradients of a tile of keys, and the tile's part of dQ. */
static inline void backward_tile(const struct call *call, const struct queries *q, const struct visit *visit,
                                 const struct ahead ahead[2], struct scratch *w)
{
    struct keys *keys = &w->tile[visit->buffer];
    const struct pairs *pairs = &visit->pairs;
    int64_t D = call->z.D;
    bool diagonal = pairs->seen == DIAGONAL;
    const float *shift = q->shift[visit->which], *delta = q->delta[visit->which];
    tile_scores(keys->k, row_stride(D), q->qt, D, call->args->scale, pairs->keys, 0, q->columns, diagonal,
                &ahead[0], w->p);
    tile_scores(keys->v, row_stride(D), q->dot, D, 1.0f, pairs->keys, 0, q->columns, diagonal, &ahead[1],
                w->ds);
    for (int64_t j = 0; j < pairs->keys; j++) {
        int64_t from = diagonal ? j / VEC_WIDTH * VEC_WIDTH : 0;
        probabilities(w->p + j * SCORES + from, w->ds + j * SCORES + from, q->weight[visit->which],
                      shift + from, delta + from, q->columns - from);
    }
    key_gradient(w->p, w->dout, D, q->count, pairs, keys->dv);
    key_gradient(w->ds, w->q, D, q->count, pairs, keys->dk);
    query_gradient(w->ds, keys->k, D, q->count, pairs, w->dq);
    hand_on(call, q, visit, w->dq);
}

/* Tile `buffer` gets `count` keys from element `at` on, and gradients of 0. */
static inline void take_keys(const struct call *call, const struct hb_tensor *k, const struct hb_tensor *v,
                             int64_t at, int64_t count, struct keys *keys)
{
    int64_t D = call->z.D, stride = row_stride(D);
    tile_copy(rows_at(k, at, call->z.G * D), count, D, keys->k, stride);
    tile_copy(rows_at(v, at, call->z.G * D), count, D, keys->v, stride);
}

static inline void clear_keys(const struct call *call, int64_t count, struct keys *keys)
{
    size_t bytes = (size_t)(count * row_stride(call->z.D)) * sizeof(float);
    memset(keys->dk, 0, bytes);
    memset(keys->dv, 0, bytes);
}

/* Row j of a tile's gradients as it will be stored. */
static inline void end_row(const struct call *call, const struct keys *keys, int64_t j)
{
    float *dk = keys->dk + j * row_stride(call->z.D), *dv = keys->dv + j * row_stride(call->z.D);
    for (int64_t d = 0; d < call->z.D; d++) {
        dk[d] = call->args->scale * dk[d] + 0.0f;
        dv[d] = dv[d] + 0.0f;
    }
}

/* Copies the tile of queries and what comes with it; asks for the next one's rows beside the first tile of
 * keys. */
static inline void take_queries(const struct call *call, const struct segment *s, const struct queries *q,
                                int64_t h, struct ahead ahead[TILES][2], struct scratch *w)
{
    int64_t H = call->z.H, D = call->z.D, at = (q->row * H + h) * D;
    struct rows q_rows = rows_at(&call->args->q, at, H * D),
                dout_rows = rows_at(&call->args->dout, at, H * D);
    int64_t next = smaller(TILE, s->length - (q->index + 1) * TILE);
    ahead[0][0] = (struct ahead){(const char *)q->dq, H * D * (int64_t)sizeof(float), q->count,
                                 D * (int64_t)sizeof(float)};
    ahead[0][1] = ahead_of(rows_from(q_rows, TILE), next, D);
    ahead[1][0] = ahead_of(rows_from(dout_rows, TILE), next, D);
    ahead[1][1] = (struct ahead){0};
    tile_copy(q_rows, q->count, D, w->q, row_stride(D));
    tile_copy(dout_rows, q->count, D, w->dout, row_stride(D));
}

#endif
