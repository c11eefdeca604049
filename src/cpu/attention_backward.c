/* Attention backward: numerics.md rule 13, queries in the lanes, S and dP
 * computed once.
 *
 * A thread takes BLOCK keys of one key/value head and passes over the queries
 * that see them, ascending: dK and dV of the block stay with the thread. dQ of a
 * tile of queries needs the key tiles in ascending order, which other threads may
 * have: a counter says whose turn it is. Pieces are handed out by keys ascending,
 * so that whoever must wait waits for work that has begun. */
#include "ops/attention.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

#include "core/math.h"
#include "cpu/attention_plan.h"
#include "cpu/attention_tile.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* The queries packed for the whole call (2 n H D floats). Rows of a segment are
 * padded to whole registers; tile i of segment t begins at row[t] + 64 i. */
struct packed {
    int64_t rows;     /* of all segments */
    int64_t *row;     /* [segments] */
    int64_t *tile;    /* [segments] number of the segment's first tile */
    float *qt, *dot;  /* per tile [H] panels of Q^T, dO^T */
    float *delta;     /* [H,rows] dot(dO, O) */
    float *shift;     /* [H,rows] what is taken off a score: lse, or 0 for -inf */
    atomic_int *turn; /* [tiles,H] the key tile that may add to dQ next */
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

static struct packed packed_in(char **at, size_t *used, int64_t segments, int64_t rows, int64_t tiles,
                               int64_t H, int64_t D)
{
    struct packed p = {.rows = rows};
    p.row = take(at, used, (size_t)segments * sizeof *p.row);
    p.tile = take(at, used, (size_t)segments * sizeof *p.tile);
    p.qt = take(at, used, (size_t)(rows * H * D) * sizeof(float));
    p.dot = take(at, used, (size_t)(rows * H * D) * sizeof(float));
    p.delta = take(at, used, (size_t)(rows * H) * sizeof(float));
    p.shift = take(at, used, (size_t)(rows * H) * sizeof(float));
    p.turn = take(at, used, (size_t)(tiles * H) * sizeof *p.turn);
    return p;
}

/* A tile of queries of one head. */
struct queries {
    int64_t index, count; /* positions 64 index .. 64 index + count - 1 of the segment */
    int64_t row;          /* of q */
    int64_t columns;      /* count in whole registers */
    float *qt, *dot;      /* panels */
    float *delta, *shift; /* [columns] */
    atomic_int *turn;
};

static struct queries queries_at(const struct packed *p, const struct segment *s, int32_t segment,
                                 int64_t index, int64_t h, int64_t H, int64_t D)
{
    int64_t count = smaller(TILE, s->length - index * TILE), columns = whole(count);
    int64_t row = p->row[segment] + index * TILE;
    return (struct queries){.index = index,
                            .count = count,
                            .row = s->q_row + index * TILE,
                            .columns = columns,
                            .qt = p->qt + row * H * D + h * D * columns,
                            .dot = p->dot + row * H * D + h * D * columns,
                            .delta = p->delta + h * p->rows + row,
                            .shift = p->shift + h * p->rows + row,
                            .turn = p->turn + (p->tile[segment] + index) * H + h};
}

static void pack(const struct hb_attention_backward_args *args, const struct packed *p, int32_t segment,
                 int64_t index, int64_t h)
{
    int64_t H = args->q.shape[1], D = args->q.shape[2];
    struct segment s = segment_at(&args->q_begin, &args->k_begin, segment);
    struct queries q = queries_at(p, &s, segment, index, h, H, D);
    int64_t at = (q.row * H + h) * D;
    const float *dout = (const float *)args->dout.data + at, *out = (const float *)args->out.data + at;
    const float *lse = (const float *)args->lse.data + q.row * H + h;
    tile_transpose((const float *)args->q.data + at, H * D, 0, q.count, D, q.qt);
    tile_transpose(dout, H * D, 0, q.count, D, q.dot);
    for (int64_t i = 0; i < q.columns; i++) {
        bool there = i < q.count;
        q.delta[i] = there ? hb_row_dot(dout + i * H * D, out + i * H * D, D) : 0.0f;
        q.shift[i] = there && lse[i * H] != -INFINITY ? lse[i * H] : 0.0f;
    }
    atomic_init(q.turn, 0);
}

INLINE void key_gradient_rows(int n, const float *a, const float *b, int64_t stride, int64_t begin,
                              int64_t end, bool diagonal, float *out)
{
    vec acc[ROWS][2];
    key_rows(acc, n, a, b, stride, begin, end, diagonal);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
    for (int c = 0; c < n; c++) {
        float *at = out + r * stride + c * VEC_WIDTH;
        vec_store(at, vec_add(vec_load(at), acc[r][c]));
    }
}

/* dV += P^T dO; dK += dS^T Q */
static void key_gradient(const float *a, const float *b, int64_t D, int64_t keys, int64_t queries,
                         bool diagonal, float *out)
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = 0; r < keys; r += ROWS) {
            int64_t begin = diagonal ? r : 0;
            const float *row = a + r * SCORES;
            if (c + VEC_WIDTH < D)
                key_gradient_rows(2, row, b + c, stride, begin, queries, diagonal, out + r * stride + c);
            else
                key_gradient_rows(1, row, b + c, stride, begin, queries, diagonal, out + r * stride + c);
        }
}

INLINE void query_gradient_rows(int n, const float *a, const float *b, int64_t stride, int64_t common,
                                bool diagonal, float *out)
{
    vec acc[ROWS][2];
    query_rows(acc, n, a, b, stride, common, diagonal);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
    for (int c = 0; c < n; c++)
        vec_store(out + r * stride + c * VEC_WIDTH, acc[r][c]);
}

/* dQ of this tile of keys = dS K */
static void query_gradient(const float *a, const float *b, int64_t D, int64_t queries, bool diagonal,
                           float *out)
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = 0; r < queries; r += ROWS) {
            int64_t common = diagonal ? r + 1 : TILE;
            if (c + VEC_WIDTH < D)
                query_gradient_rows(2, a + r, b + c, stride, common, diagonal, out + r * stride + c);
            else
                query_gradient_rows(1, a + r, b + c, stride, common, diagonal, out + r * stride + c);
        }
}

static void wait_for_turn(atomic_int *turn, int mine)
{
    for (int spins = 1; atomic_load_explicit(turn, memory_order_acquire) != mine; spins++)
        if (spins % 1024 == 0)
            sched_yield();
}

/* Adds the tile's dQ when it is the turn of key tile `kt`. */
static void hand_on(const struct queries *q, int64_t kt, const float *tile, int64_t D, float scale, float *dq,
                    int64_t stride)
{
    wait_for_turn(q->turn, (int)kt);
    for (int64_t i = 0; i < q->count; i++) {
        const float *from = tile + i * row_stride(D);
        float *to = dq + i * stride;
        for (int64_t d = 0; d < D; d++) {
            float total = kt == 0 ? from[d] : to[d] + from[d];
            to[d] = kt == q->index ? scale * total + 0.0f : total;
        }
    }
    atomic_store_explicit(q->turn, (int)kt + 1, memory_order_release);
}

/* Scores to P, dP to dS, of one key and `count` queries, a multiple of the register's width. */
static void probabilities(float *restrict p, float *restrict ds, const float *restrict shift,
                          const float *restrict delta, int64_t count)
{
    for (int64_t i = 0; i < count / VEC_WIDTH * VEC_WIDTH; i++) {
        p[i] = hb_expf(p[i] - shift[i]);
        ds[i] = p[i] * (ds[i] - delta[i]);
    }
}

/* Query head h's part of the gradients of key tile kt, and the tile's part of dQ. */
static void backward_tile(const struct queries *q, int64_t kt, int64_t count, int64_t D, float scale,
                          float *dq, int64_t dq_stride, const struct ahead ahead[2], struct scratch *w)
{
    struct keys *keys = &w->tile[kt % TILES];
    bool diagonal = kt == q->index;
    tile_scores(keys->k, row_stride(D), q->qt, D, scale, count, 0, q->columns, diagonal, &ahead[0], w->p);
    tile_scores(keys->v, row_stride(D), q->dot, D, 1.0f, count, 0, q->columns, diagonal, &ahead[1], w->ds);
    for (int64_t j = 0; j < count; j++) {
        int64_t from = diagonal ? j / VEC_WIDTH * VEC_WIDTH : 0;
        probabilities(w->p + j * SCORES + from, w->ds + j * SCORES + from, q->shift + from, q->delta + from,
                      q->columns - from);
    }
    key_gradient(w->p, w->dout, D, count, q->count, diagonal, keys->dv);
    key_gradient(w->ds, w->q, D, count, q->count, diagonal, keys->dk);
    query_gradient(w->ds, keys->k, D, q->count, diagonal, w->dq);
    hand_on(q, kt, w->dq, D, scale, dq, dq_stride);
}

static void backward_piece(const struct hb_attention_backward_args *args, const struct packed *packed,
                           const struct piece *piece, int64_t g, struct scratch *w)
{
    int64_t H = args->q.shape[1], G = args->k.shape[1], D = args->q.shape[2], stride = row_stride(D);
    struct segment s = segment_at(&args->q_begin, &args->k_begin, piece->segment);
    int64_t first = (int64_t)piece->index * TILES, end = smaller(first + TILES, (s.length + TILE - 1) / TILE);
    int64_t at = ((s.k_row + first * TILE) * G + g) * D;
    /* A segment that is one piece is packed where it is used, not by all threads beforehand. */
    for (int64_t i = 0; s.length <= BLOCK && i < (H / G) * end; i++)
        pack(args, packed, piece->segment, i % end, g * (H / G) + i / end);
    for (int64_t kt = first; kt < end; kt++) {
        struct keys *keys = &w->tile[kt % TILES];
        int64_t count = smaller(TILE, s.length - kt * TILE), from = at + (kt - first) * TILE * G * D;
        tile_copy((const float *)args->k.data + from, G * D, count, D, keys->k, stride);
        tile_copy((const float *)args->v.data + from, G * D, count, D, keys->v, stride);
        memset(keys->dk, 0, (size_t)(count * stride) * sizeof(float));
        memset(keys->dv, 0, (size_t)(count * stride) * sizeof(float));
    }
    for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
        for (int64_t index = first; index * TILE < s.length; index++) {
            struct queries q = queries_at(packed, &s, piece->segment, index, h, H, D);
            int64_t row = (q.row * H + h) * D;
            const float *q_rows = (const float *)args->q.data + row,
                        *dout_rows = (const float *)args->dout.data + row;
            float *dq_rows = (float *)args->dq.data + row;
            int64_t next = TILE * H * D, next_count = smaller(TILE, s.length - (index + 1) * TILE);
            /* Beside the first tile of keys: rows of dq, soon of use, and of the next queries. */
            struct ahead ahead[TILES][2] = {
                {{dq_rows, H * D, q.count, D}, {q_rows + next, H * D, next_count, D}},
                {{dout_rows + next, H * D, next_count, D}, {0}},
            };
            tile_copy(q_rows, H * D, q.count, D, w->q, stride);
            tile_copy(dout_rows, H * D, q.count, D, w->dout, stride);
            for (int64_t kt = first; kt < end && kt <= index; kt++)
                backward_tile(&q, kt, smaller(TILE, s.length - kt * TILE), D, args->scale, dq_rows, H * D,
                              ahead[kt - first], w);
        }
    for (int64_t j = 0; first * TILE + j < smaller(s.length, end * TILE); j++) {
        const struct keys *keys = &w->tile[j / TILE];
        const float *dk = keys->dk + j % TILE * stride, *dv = keys->dv + j % TILE * stride;
        float *to_dk = (float *)args->dk.data + at + j * G * D,
              *to_dv = (float *)args->dv.data + at + j * G * D;
        for (int64_t d = 0; d < D; d++) {
            to_dk[d] = args->scale * dk[d] + 0.0f;
            to_dv[d] = dv[d] + 0.0f;
        }
    }
}

/* Rows of dK and dV that no segment owns. */
static void clear_rest(const struct hb_attention_backward_args *args)
{
    const int32_t *k_begin = args->k_begin.data;
    int64_t m = args->k.shape[0], row = args->k.shape[1] * args->k.shape[2];
    int64_t first = k_begin[0], last = k_begin[args->k_begin.shape[0] - 1];
    for (int i = 0; i < 2; i++) {
        float *to = i == 0 ? args->dk.data : args->dv.data;
        if (first > 0)
            memset(to, 0, (size_t)(first * row) * sizeof *to);
        if (last < m)
            memset(to + last * row, 0, (size_t)((m - last) * row) * sizeof *to);
    }
}

hb_status HB_CPU(attention_backward)(struct hb_context *context,
                                     const struct hb_attention_backward_args *args)
{
    if (args->bidirectional || args->window || args->sinks || args->slots_k.data)
        return HB_FAIL(HB_EUNSUPPORTED, "cpu has no attention with windows, sinks or slots yet; choose ref");
    int64_t H = args->q.shape[1], G = args->k.shape[1], D = args->q.shape[2];
    struct plan plan = plan_of(&args->q_begin, &args->k_begin, BLOCK);
    int threads = attention_threads(context, plan.pairs * (double)(H * D));
    int64_t rows = 0, tiles = 0;
    for (int64_t t = 0; t < plan.segments; t++) {
        int64_t length = segment_at(&args->q_begin, &args->k_begin, t).length;
        rows += whole(length);
        tiles += (length + TILE - 1) / TILE;
    }

    char *memory = NULL;
    size_t shared_bytes = 0, scratch_bytes = 0;
    scratch_in(&memory, &scratch_bytes, D);
    packed_in(&memory, &shared_bytes, plan.segments, rows, tiles, H, D);
    plan_in(&plan, &memory, &shared_bytes);
    void *workspace;
    HB_TRY(hb_host_workspace(context, shared_bytes + (size_t)threads * scratch_bytes, &workspace));
    memory = workspace;
    shared_bytes = 0;
    struct packed packed = packed_in(&memory, &shared_bytes, plan.segments, rows, tiles, H, D);
    plan_in(&plan, &memory, &shared_bytes);

    plan_sort(&plan, &args->q_begin, &args->k_begin, BLOCK, false);
    rows = tiles = 0;
    for (int64_t t = 0; t < plan.segments; t++) {
        int64_t length = segment_at(&args->q_begin, &args->k_begin, t).length;
        packed.row[t] = rows;
        packed.tile[t] = tiles;
        rows += whole(length);
        tiles += (length + TILE - 1) / TILE;
    }
    clear_rest(args);

    atomic_llong next = 0;
#pragma omp parallel num_threads(threads)
    {
        size_t used = shared_bytes + (size_t)omp_get_thread_num() * scratch_bytes;
        struct scratch w = scratch_in(&memory, &used, D);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < plan.pieces * H; i++) {
            const struct piece *piece = &plan.piece[i / H];
            int64_t length = segment_at(&args->q_begin, &args->k_begin, piece->segment).length;
            if (length <= BLOCK)
                continue;
            for (int64_t t = (int64_t)piece->index * TILES;
                 t < (piece->index + 1) * TILES && t * TILE < length; t++)
                pack(args, &packed, piece->segment, t, i % H);
        }
        /* Not an OpenMP loop: waiting for one's turn relies on the order in which pieces are taken. */
        for (int64_t i; (i = atomic_fetch_add(&next, 1)) < plan.pieces * G;)
            backward_piece(args, &packed, &plan.piece[i / G], i % G, &w);
    }
    return HB_OK;
}
