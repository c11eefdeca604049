/* Attention backward: numerics.md rule 13, queries in the lanes, S and dP
 * computed once.
 *
 * A thread takes BLOCK keys of one key/value head and passes over the queries
 * that see them, ascending: dK and dV of the block stay with the thread. dQ of a
 * tile of queries needs the key tiles in ascending order, which other threads may
 * have: a counter says whose turn it is. Pieces are handed out by keys ascending,
 * slots before them, so that whoever must wait waits for work that has begun. */
#include "ops/attention.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

#include "core/math.h"
#include "core/tree.h"
#include "cpu/attention_mask.h"
#include "cpu/attention_plan.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* The queries packed for the whole call (2 n H D floats). Rows of a segment are
 * padded to whole registers; tile i of segment t begins at row[t] + 64 i. */
struct packed {
    int64_t rows;     /* of all segments */
    int64_t *row;     /* [segments] */
    int64_t *tile;    /* [segments] number of the segment's first tile */
    float *qt, *dot;  /* per tile [H] panels of Q^T, dO^T */
    float *delta[2];  /* [H,rows] dot(dO, O), of the keys' recurrence and of the slots' */
    float *shift[2];  /* [H,rows] what is taken off a score: lse, or 0 for -inf */
    atomic_int *turn; /* [tiles,H] how many tiles of keys have added to dQ */
    float *dq;        /* [n,H,D]; where dq is stored in fp32, its own memory */
    float *sum[2];    /* [chunks of 64 segments,M,G,D] of dslots_k, dslots_v */
    float *gate;      /* [chunks] of dgate */
};

/* How large all of it is. */
struct sizes {
    int64_t segments, rows, tiles, slots, chunks, H, G, D;
    bool two;  /* recurrences */
    bool room; /* for dq */
};

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

static struct scratch scratch_in(char **at, size_t *used, int64_t D)
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

static struct packed packed_in(char **at, size_t *used, const struct sizes *z, int64_t n)
{
    struct packed p = {.rows = z->rows};
    size_t row = (size_t)(z->rows * z->H) * sizeof(float);
    p.row = take(at, used, (size_t)z->segments * sizeof *p.row);
    p.tile = take(at, used, (size_t)z->segments * sizeof *p.tile);
    p.qt = take(at, used, row * (size_t)z->D);
    p.dot = take(at, used, row * (size_t)z->D);
    for (int i = 0; i < 2; i++) {
        p.delta[i] = i == 0 || z->two ? take(at, used, row) : p.delta[0];
        p.shift[i] = i == 0 || z->two ? take(at, used, row) : p.shift[0];
        p.sum[i] = take(at, used, (size_t)(z->chunks * z->slots * z->G * z->D) * sizeof(float));
    }
    p.turn = take(at, used, (size_t)(z->tiles * z->H) * sizeof *p.turn);
    p.dq = take(at, used, z->room ? (size_t)(n * z->H * z->D) * sizeof(float) : 0);
    p.gate = take(at, used, (size_t)z->chunks * sizeof(float));
    return p;
}

/* One call. */
struct call {
    const struct hb_attention_backward_args *args;
    struct sight sight;
    struct sizes z;
    struct packed packed;
};

/* A tile of queries of one head. */
struct queries {
    int64_t index, count;         /* positions 64 index .. 64 index + count - 1 of the segment */
    int64_t row;                  /* of q */
    int64_t columns;              /* count in whole registers */
    float *qt, *dot;              /* panels */
    float *delta[2], *shift[2];   /* [columns] */
    float weight[2];              /* of P */
    float *dq;                    /* element 0 of its first row, rows H D apart */
    atomic_int *turn;
};

/* What P is multiplied by over keys and over slots: 1, or the two of gated. */
static void weights(const struct call *call, int64_t h, float out[2])
{
    float gate;
    out[0] = out[1] = 1.0f;
    if (call->args->combine != HB_GATED)
        return;
    hb_widen(call->args->gate.dtype, call->args->gate.data, h, 1, &gate);
    out[1] = hb_sigmoidf(gate);
    out[0] = 1.0f - out[1];
}

static struct queries queries_at(const struct call *call, const struct segment *s, int32_t segment,
                                 int64_t index, int64_t h)
{
    const struct packed *p = &call->packed;
    int64_t H = call->z.H, D = call->z.D;
    int64_t count = smaller(TILE, s->length - index * TILE), columns = whole(count);
    int64_t row = p->row[segment] + index * TILE, at = h * p->rows + row;
    struct queries q = {.index = index,
                        .count = count,
                        .row = s->q_row + index * TILE,
                        .columns = columns,
                        .qt = p->qt + row * H * D + h * D * columns,
                        .dot = p->dot + row * H * D + h * D * columns,
                        .delta = {p->delta[0] + at, p->delta[1] + at},
                        .shift = {p->shift[0] + at, p->shift[1] + at},
                        .turn = p->turn + (p->tile[segment] + index) * H + h};
    q.dq = p->dq + (q.row * H + h) * D;
    weights(call, h, q.weight);
    return q;
}

/* Of one recurrence: what its out and lse give every query. `dout` and `room` [PADDED] rows. */
static void pack_state(const struct call *call, const struct queries *q, int64_t h, int which,
                       const float *dout, int64_t dout_stride, float *room)
{
    int64_t H = call->z.H, D = call->z.D, stride;
    const struct hb_tensor *out = which ? &call->args->slots_out : &call->args->out;
    const struct hb_tensor *state = which ? &call->args->slots_lse : &call->args->lse;
    const float *rows = tile_read(rows_at(out, (q->row * H + h) * D, H * D), q->count, D, room, &stride);
    const float *lse = (const float *)state->data + q->row * H + h;
    for (int64_t i = 0; i < q->columns; i++) {
        bool there = i < q->count;
        q->delta[which][i] = there ? hb_row_dot(dout + i * dout_stride, rows + i * stride, D) : 0.0f;
        q->shift[which][i] = there && lse[i * H] != -INFINITY ? lse[i * H] : 0.0f;
    }
}

static void pack(const struct call *call, int32_t segment, int64_t index, int64_t h, struct scratch *w)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, D = call->z.D, stride;
    struct segment s = segment_at(&args->q_begin, &args->k_begin, segment);
    struct queries q = queries_at(call, &s, segment, index, h);
    int64_t at = (q.row * H + h) * D;
    const float *rows = tile_read(rows_at(&args->q, at, H * D), q.count, D, w->q, &stride);
    tile_transpose(rows, stride, 0, q.count, D, q.qt);
    rows = tile_read(rows_at(&args->dout, at, H * D), q.count, D, w->dout, &stride);
    tile_transpose(rows, stride, 0, q.count, D, q.dot);
    for (int which = 0; which < (call->z.two ? 2 : 1); which++)
        pack_state(call, &q, h, which, rows, stride, w->dq);
    atomic_init(q.turn, 0);
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
static void key_gradient(const float *a, const float *b, int64_t D, int64_t queries,
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
static void query_gradient(const float *a, const float *b, int64_t D, int64_t queries,
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

static void wait_for_turn(atomic_int *turn, int mine)
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
static void hand_on(const struct call *call, const struct queries *q, const struct visit *visit,
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
static void probabilities(float *restrict p, float *restrict ds, float weight, const float *restrict shift,
                          const float *restrict delta, int64_t count)
{
    for (int64_t i = 0; i < count / VEC_WIDTH * VEC_WIDTH; i++) {
        p[i] = weight * hb_expf(p[i] - shift[i]);
        ds[i] = p[i] * (ds[i] - delta[i]);
    }
}

/* One query head's part of the gradients of a tile of keys, and the tile's part of dQ. */
static void backward_tile(const struct call *call, const struct queries *q, const struct visit *visit,
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
static void take_keys(const struct call *call, const struct hb_tensor *k, const struct hb_tensor *v,
                      int64_t at, int64_t count, struct keys *keys)
{
    int64_t D = call->z.D, stride = row_stride(D);
    tile_copy(rows_at(k, at, call->z.G * D), count, D, keys->k, stride);
    tile_copy(rows_at(v, at, call->z.G * D), count, D, keys->v, stride);
}

static void clear_keys(const struct call *call, int64_t count, struct keys *keys)
{
    size_t bytes = (size_t)(count * row_stride(call->z.D)) * sizeof(float);
    memset(keys->dk, 0, bytes);
    memset(keys->dv, 0, bytes);
}

/* Row j of a tile's gradients as it will be stored. */
static void end_row(const struct call *call, const struct keys *keys, int64_t j)
{
    float *dk = keys->dk + j * row_stride(call->z.D), *dv = keys->dv + j * row_stride(call->z.D);
    for (int64_t d = 0; d < call->z.D; d++) {
        dk[d] = call->args->scale * dk[d] + 0.0f;
        dv[d] = dv[d] + 0.0f;
    }
}

/* Copies the tile of queries and what comes with it; asks for the next one's rows beside the first tile of
 * keys. */
static void take_queries(const struct call *call, const struct segment *s, const struct queries *q, int64_t h,
                         struct ahead ahead[TILES][2], struct scratch *w)
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

/* --- keys --- */

/* Which of the tiles that the queries see is key tile kt? */
static int64_t number_of(const struct call *call, const struct queries *q, int64_t kt)
{
    int64_t slots = (call->z.slots + TILE - 1) / TILE, sinks = sink_tiles(&call->sight);
    int64_t first = first_tile(&call->sight, q->index * TILE);
    return slots + (kt < sinks ? kt : kt - first + smaller(first, sinks));
}

/* Tiles of queries [from, to) that may see a key of tiles first .. end - 1. */
static void queries_of(const struct sight *s, int64_t length, int64_t first, int64_t end, int64_t *from,
                       int64_t *to)
{
    bool cut = s->window && first * TILE >= s->sinks;
    int64_t last = smaller(end * TILE, length) - 1;
    *from = s->bidirectional ? 0 : first;
    if (s->bidirectional && cut)
        *from = larger(first * TILE - s->window + 1, 0) / TILE;
    *to = ((cut ? smaller(length, last + s->window) : length) + TILE - 1) / TILE;
}

static void backward_piece(const struct call *call, const struct piece *piece, int64_t g, struct scratch *w)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, G = call->z.G, D = call->z.D, from, to;
    struct segment s = segment_at(&args->q_begin, &args->k_begin, piece->segment);
    int64_t first = (int64_t)piece->index * TILES, end = smaller(first + TILES, (s.length + TILE - 1) / TILE);
    int64_t at = ((s.k_row + first * TILE) * G + g) * D;
    /* A segment that is one piece is packed where it is used, not by all threads beforehand. */
    for (int64_t i = 0; s.length <= BLOCK && !call->z.slots && i < (H / G) * end; i++)
        pack(call, piece->segment, i % end, g * (H / G) + i / end, w);
    for (int64_t kt = first; kt < end; kt++) {
        int64_t count = smaller(TILE, s.length - kt * TILE);
        take_keys(call, &args->k, &args->v, at + (kt - first) * TILE * G * D, count, &w->tile[kt - first]);
        clear_keys(call, count, &w->tile[kt - first]);
    }
    queries_of(&call->sight, s.length, first, end, &from, &to);
    for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
        for (int64_t index = from; index < to; index++) {
            struct queries q = queries_at(call, &s, piece->segment, index, h);
            int64_t last = last_tile(&call->sight, index * TILE + q.count, s.length);
            struct ahead ahead[TILES][2];
            take_queries(call, &s, &q, h, ahead, w);
            for (int64_t kt = first; kt < end && kt <= last; kt++) {
                struct visit visit = {.buffer = (int)(kt - first), .last = kt == last};
                pairs_of(&call->sight, index, kt, 0, q.count, smaller(TILE, s.length - kt * TILE),
                         &visit.pairs);
                if (visit.pairs.seen == NOTHING)
                    continue;
                visit.number = number_of(call, &q, kt);
                backward_tile(call, &q, &visit, ahead[kt - first], w);
            }
        }
    for (int64_t j = 0; first * TILE + j < smaller(s.length, end * TILE); j++) {
        const struct keys *keys = &w->tile[j / TILE];
        int64_t row = j % TILE * row_stride(D), to_row = at + j * G * D;
        end_row(call, keys, j % TILE);
        hb_narrow(args->dk.dtype, keys->dk + row, D, args->dk.data, to_row);
        hb_narrow(args->dv.dtype, keys->dv + row, D, args->dv.data, to_row);
    }
}

/* --- slots --- */

/* Two tiles of slots of one head, over the 64 segments of a chunk: their sum. */
static void backward_slots(const struct call *call, int64_t first, int64_t chunk, int64_t g,
                           struct scratch *w)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, G = call->z.G, D = call->z.D, M = call->z.slots, at = (first * TILE * G + g) * D;
    int64_t end = smaller(first + TILES, (M + TILE - 1) / TILE), stride = row_stride(D);
    struct visit visit[TILES] = {{.which = 1}};
    for (int64_t t = first; t < end; t++) {
        visit[t - first] = (struct visit){
            .which = 1, .buffer = (int)(t - first), .number = t,
            .pairs = {ALL, smaller(TILE, M - t * TILE), {0}, {0}}};
        take_keys(call, &args->slots_k, &args->slots_v, at + (t - first) * TILE * G * D,
                  visit[t - first].pairs.keys, &w->tile[t - first]);
    }
    for (int64_t t = chunk * 64; t < smaller(call->z.segments, (chunk + 1) * 64); t++) {
        struct segment s = segment_at(&args->q_begin, &args->k_begin, t);
        for (int64_t i = 0; i < end - first; i++)
            clear_keys(call, visit[i].pairs.keys, &w->tile[i]);
        for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
            for (int64_t index = 0; index * TILE < s.length; index++) {
                struct queries q = queries_at(call, &s, (int32_t)t, index, h);
                struct ahead ahead[TILES][2];
                take_queries(call, &s, &q, h, ahead, w);
                for (int64_t i = 0; i < end - first; i++)
                    backward_tile(call, &q, &visit[i], ahead[i], w);
            }
        for (int64_t j = 0; first * TILE + j < smaller(M, end * TILE); j++) {
            const struct keys *keys = &w->tile[j / TILE];
            int64_t row = j % TILE * stride, to = chunk * M * G * D + at + j * G * D;
            float *sum_k = call->packed.sum[0] + to, *sum_v = call->packed.sum[1] + to;
            end_row(call, keys, j % TILE);
            for (int64_t d = 0; d < D; d++) {
                sum_k[d] = t % 64 == 0 ? keys->dk[row + d] : sum_k[d] + keys->dk[row + d];
                sum_v[d] = t % 64 == 0 ? keys->dv[row + d] : sum_v[d] + keys->dv[row + d];
            }
        }
    }
}

static void end_slots(const struct call *call)
{
    const struct hb_tensor *out[2] = {&call->args->dslots_k, &call->args->dslots_v};
    int64_t width = call->z.slots * call->z.G * call->z.D;
    for (int i = 0; i < 2 && width; i++)
        if (call->z.chunks)
            hb_columns_finish(call->packed.sum[i], call->z.chunks, width, width, HB_STORE, out[i]->data);
        else
            memset(out[i]->data, 0, (size_t)width * sizeof(float));
}

static void gate_gradient(const struct call *call, int64_t h)
{
    const struct hb_attention_backward_args *args = call->args;
    const struct packed *p = &call->packed;
    float *sum = p->gate, weight[2];
    weights(call, h, weight);
    for (int64_t t = 0; t < call->z.segments; t++) {
        struct segment s = segment_at(&args->q_begin, &args->k_begin, t);
        float total = 0.0f;
        for (int64_t index = 0; index * TILE < s.length; index++) {
            struct queries q = queries_at(call, &s, (int32_t)t, index, h);
            float tile = 0.0f;
            for (int64_t i = 0; i < q.count; i++)
                tile = tile + (q.delta[1][i] - q.delta[0][i]);
            total = total + tile;
        }
        float x = weight[1] * weight[0] * total + 0.0f;
        sum[t / 64] = t % 64 == 0 ? x : sum[t / 64] + x;
    }
    ((float *)args->dgate.data)[h] = hb_tree_sum_f32(sum, call->z.chunks);
}

/* --- the call --- */

/* Rows of dK and dV that no segment owns. */
static void clear_rest(const struct hb_attention_backward_args *args)
{
    const int32_t *k_begin = args->k_begin.data;
    int64_t m = args->k.shape[0], row = args->k.shape[1] * args->k.shape[2];
    int64_t first = k_begin[0], last = k_begin[args->k_begin.shape[0] - 1];
    for (int i = 0; i < 2; i++) {
        const struct hb_tensor *t = i == 0 ? &args->dk : &args->dv;
        size_t size = hb_dtype_size(t->dtype);
        if (first > 0)
            memset(t->data, 0, (size_t)(first * row) * size);
        if (last < m)
            memset((char *)t->data + (size_t)(last * row) * size, 0, (size_t)((m - last) * row) * size);
    }
}

static struct sizes sizes_of(const struct hb_attention_backward_args *args)
{
    struct sizes z = {.segments = args->q_begin.shape[0] - 1,
                      .slots = args->slots_k.data ? args->slots_k.shape[0] : 0,
                      .H = args->q.shape[1],
                      .G = args->k.shape[1],
                      .D = args->q.shape[2],
                      .two = args->combine != HB_JOINT,
                      .room = args->dq.dtype != HB_F32};
    z.chunks = z.slots ? (z.segments + 63) / 64 : 0;
    for (int64_t t = 0; t < z.segments; t++) {
        int64_t length = segment_at(&args->q_begin, &args->k_begin, t).length;
        z.rows += whole(length);
        z.tiles += (length + TILE - 1) / TILE;
    }
    return z;
}

static void number_rows(const struct call *call)
{
    int64_t rows = 0, tiles = 0;
    for (int64_t t = 0; t < call->z.segments; t++) {
        int64_t length = segment_at(&call->args->q_begin, &call->args->k_begin, t).length;
        call->packed.row[t] = rows;
        call->packed.tile[t] = tiles;
        rows += whole(length);
        tiles += (length + TILE - 1) / TILE;
    }
}

hb_status HB_CPU(attention_backward)(struct hb_context *context,
                                     const struct hb_attention_backward_args *args)
{
    struct call call = {.args = args,
                        .sight = {args->window, args->sinks, args->bidirectional},
                        .z = sizes_of(args)};
    int64_t H = call.z.H, G = call.z.G, n = args->q.shape[0];
    struct plan plan = plan_of(&args->q_begin, &args->k_begin, BLOCK);
    int threads = attention_threads(context, plan.pairs * (double)(H * call.z.D));

    char *memory = NULL;
    size_t shared_bytes = 0, scratch_bytes = 0;
    scratch_in(&memory, &scratch_bytes, call.z.D);
    packed_in(&memory, &shared_bytes, &call.z, n);
    plan_in(&plan, &memory, &shared_bytes);
    void *workspace;
    HB_TRY(hb_host_workspace(context, shared_bytes + (size_t)threads * scratch_bytes, &workspace));
    memory = workspace;
    shared_bytes = 0;
    call.packed = packed_in(&memory, &shared_bytes, &call.z, n);
    if (!call.z.room)
        call.packed.dq = args->dq.data;
    plan_in(&plan, &memory, &shared_bytes);

    plan_sort(&plan, &args->q_begin, &args->k_begin, BLOCK, false);
    number_rows(&call);
    clear_rest(args);

    int64_t blocks = (call.z.slots + BLOCK - 1) / BLOCK, slot_pieces = blocks * call.z.chunks * G;
    atomic_llong next = 0;
#pragma omp parallel num_threads(threads)
    {
        size_t used = shared_bytes + (size_t)omp_get_thread_num() * scratch_bytes;
        struct scratch w = scratch_in(&memory, &used, call.z.D);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < plan.pieces * H; i++) {
            const struct piece *piece = &plan.piece[i / H];
            int64_t length = segment_at(&args->q_begin, &args->k_begin, piece->segment).length;
            if (length <= BLOCK && !call.z.slots)
                continue;
            for (int64_t t = (int64_t)piece->index * TILES;
                 t < (piece->index + 1) * TILES && t * TILE < length; t++)
                pack(&call, piece->segment, t, i % H, &w);
        }
        /* Not an OpenMP loop: waiting for one's turn relies on the order in which pieces are taken. */
        for (int64_t i; (i = atomic_fetch_add(&next, 1)) < slot_pieces + plan.pieces * G;) {
            int64_t key = i - slot_pieces;
            if (key < 0)
                backward_slots(&call, i / G / call.z.chunks * TILES, i / G % call.z.chunks, i % G, &w);
            else
                backward_piece(&call, &plan.piece[key / G], key % G, &w);
        }
    }
    end_slots(&call);
    for (int64_t h = 0; args->combine == HB_GATED && h < H; h++)
        gate_gradient(&call, h);
    return HB_OK;
}
