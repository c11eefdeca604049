/* Attention forward: numerics.md rule 12, queries in the lanes.
 *
 * A thread takes one head and BLOCK queries of a segment and passes over the
 * slots and the keys tile by tile, leaving out what nobody sees. Keys and values are copied into rows next to
 * each other: as they lie, H D apart, they would fight for the same cache sets. */
#include "ops/attention.h"

#include <math.h>
#include <omp.h>

#include "core/math.h"
#include "cpu/attention_mask.h"
#include "cpu/attention_plan.h"
#include "cpu/cpu.h"
#include "cpu/exp.h"

enum { TILES = 2, BLOCK = TILES * TILE };

/* 64 positions of queries; those at lanes lo .. hi - 1 are there. */
struct queries {
    int64_t index; /* positions 64 index and on */
    int64_t lo, hi;
    int64_t row; /* of the first among the block's queries */
    float *qt;   /* Q^T in panels */
    float *o;    /* [PADDED] rows */
    float m[TILE], l[TILE], a[PADDED];
};

struct scratch {
    struct queries tile[TILES];
    float *k, *v; /* [PADDED] rows */
    float *s;     /* [PADDED,SCORES]: S^T, then P^T */
};

static struct scratch *scratch_in(char **at, size_t *used, int64_t D)
{
    size_t rows = (size_t)(PADDED * row_stride(D)) * sizeof(float);
    struct scratch *w = take(at, used, sizeof *w);
    float *part[2 * TILES + 3];
    for (int i = 0; i < 2 * TILES + 2; i++)
        part[i] = take(at, used, rows);
    part[2 * TILES + 2] = take(at, used, PADDED * SCORES * sizeof(float));
    if (!w)
        return NULL;
    for (int t = 0; t < TILES; t++) {
        w->tile[t].qt = part[2 * t];
        w->tile[t].o = part[2 * t + 1];
    }
    w->k = part[2 * TILES];
    w->v = part[2 * TILES + 1];
    w->s = part[2 * TILES + 2];
    return w;
}

/* Sum of 64 rows of one register: lane l is row l + row l + 32, then a tree 16, 8, 4, 2, 1. */
static inline vec row_sum(const float *p)
{
    vec t[16];
    UNROLL
    for (int l = 0; l < 16; l++) {
        vec even = vec_add(vec_load(p + l * SCORES), vec_load(p + (l + 32) * SCORES));
        vec odd = vec_add(vec_load(p + (l + 16) * SCORES), vec_load(p + (l + 48) * SCORES));
        t[l] = vec_add(even, odd);
    }
    UNROLL
    for (int l = 0; l < 8; l++)
        t[l] = vec_add(t[l], t[l + 8]);
    UNROLL
    for (int l = 0; l < 4; l++)
        t[l] = vec_add(t[l], t[l + 4]);
    return vec_add(vec_add(t[0], t[2]), vec_add(t[1], t[3]));
}

/* Largest score so far of each query of the register at column c, over rows
 * 0 .. rows - 1.
 *
 * vec_max passes over a NaN where ref takes it for the maximum. Either way the
 * query's p of that key, and so all of O and lse, are NaN. */
static inline vec highest(const float *s, int64_t c, int64_t rows, vec m)
{
    vec high[4] = {m, m, m, m};
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4)
        UNROLL
    for (int i = 0; i < 4; i++)
        high[i] = vec_max(vec_load(s + (j + i) * SCORES + c), high[i]);
    for (; j < rows; j++)
        high[0] = vec_max(vec_load(s + j * SCORES + c), high[0]);
    return vec_max(vec_max(high[0], high[1]), vec_max(high[2], high[3]));
}

/* x = exp(x - shift), `count` a multiple of the register's width. */
static inline void exp_lanes(float *restrict x, const float *restrict shift, int64_t count)
{
    for (int64_t i = 0; i < count; i += VEC_WIDTH)
        vec_store(x + i, vec_exp(vec_sub(vec_load(x + i), vec_load(shift + i))));
}

/* Row j of the diagonal tile: the register in which it is seen by some queries
 * and not by others, from column j / VEC_WIDTH * VEC_WIDTH on, gets `other` where
 * it is not seen. */
static inline void mask(float *restrict s, int64_t j, const float *restrict other)
{
    int unseen = (int)(j % VEC_WIDTH);
    s += j * SCORES + j - unseen;
    for (int i = 0; i < VEC_WIDTH; i++)
        s[i] = i < unseen ? other[i] : s[i];
}

/* A row of a tile that is cut: columns whose bit is not set get `other`. */
static inline void mask_row(float *restrict s, uint64_t seen, int64_t from, int64_t to,
                            const float *restrict other)
{
    for (int64_t i = from; i < to; i++)
        s[i] = seen >> i & 1 ? s[i] : other[i];
}

/* Scores of the pairs' keys and the queries of columns [from, to) become P; moves
 * m and l on and leaves the factor of what was before in a. Each step goes over
 * all queries, so that no step waits for the end of the one before. */
static void softmax(struct queries *q, float *s, const struct pairs *pairs, int64_t from, int64_t to)
{
    static const float zeros[TILE];
    float shift[TILE], lowest[TILE];
    bool diagonal = pairs->seen == DIAGONAL, some = pairs->seen == SOME;
    int64_t keys = pairs->keys;
    /* Key 0 is seen by all, so its scores in place of masked ones leave the maxima as they are. (With
     * -infinity there, exp would underflow, which costs more than all the rest of it.) */
    for (int64_t j = 1; diagonal && j < keys; j++)
        mask(s, j, s + j / VEC_WIDTH * VEC_WIDTH);
    for (int64_t i = from; some && i < to; i++)
        lowest[i] = -INFINITY;
    for (int64_t j = 0; some && j < keys; j++)
        mask_row(s + j * SCORES, pairs->query_bits[j], from, to, lowest);
    for (int64_t c = from; c < to; c += VEC_WIDTH) {
        vec before = vec_load(q->m + c);
        vec_store(q->m + c, highest(s, c, diagonal ? smaller(keys, c + VEC_WIDTH) : keys, before));
        vec_store(q->a + c, before);
    }
    for (int64_t i = from; i < to; i++)
        shift[i] = q->m[i] == -INFINITY ? 0.0f : q->m[i];
    exp_lanes(q->a + from, shift + from, to - from);
    for (int64_t j = 0; j < keys; j++) {
        int64_t seen = diagonal ? larger(from, j / VEC_WIDTH * VEC_WIDTH) : from;
        for (int64_t c = from; c < seen; c += VEC_WIDTH)
            vec_store(s + j * SCORES + c, vec_zero());
        if (some)
            mask_row(s + j * SCORES, pairs->query_bits[j], from, to, shift);
        exp_lanes(s + j * SCORES + seen, shift + seen, to - seen);
        if (diagonal)
            mask(s, j, zeros);
        if (some)
            mask_row(s + j * SCORES, pairs->query_bits[j], from, to, zeros);
    }
    for (int64_t j = keys; j < TILE; j++)
        for (int64_t c = from; c < to; c += VEC_WIDTH)
            vec_store(s + j * SCORES + c, vec_zero());
    for (int64_t c = from; c < to; c += VEC_WIDTH)
        vec_store(q->l + c, vec_fma(vec_load(q->a + c), vec_load(q->l + c), row_sum(s + c)));
}

INLINE void output_rows(int n, const float *p, const float *v, const float *a, int64_t stride,
                        const struct pairs *pairs, int64_t row, float *o)
{
    vec acc[ROWS][2];
    if (pairs->seen == SOME)
        some_rows(acc, n, p, 1, SCORES, v, stride, pairs->query_bits, pairs->keys, row);
    else
        query_rows(acc, n, p, v, stride, pairs->seen == DIAGONAL ? row + 1 : pairs->keys,
                   pairs->seen == DIAGONAL);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
    for (int c = 0; c < n; c++) {
        float *at = o + r * stride + c * VEC_WIDTH;
        vec_store(at, vec_fma(vec_set1(a[r]), vec_load(at), acc[r][c]));
    }
}

/* O = fmaf(a, O, P V) */
static void output(struct queries *q, const float *p, const float *v, int64_t D, const struct pairs *pairs,
                   const struct ahead ahead[3])
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = q->lo; r < q->hi; r += ROWS) {
            float *o = q->o + r * stride + c;
            for (int i = 0; c == 0 && i < 3; i++)
                fetch(&ahead[i], r - q->lo);
            if (c + VEC_WIDTH < D)
                output_rows(2, p + r, v + c, q->a + r, stride, pairs, r, o);
            else
                output_rows(1, p + r, v + c, q->a + r, stride, pairs, r, o);
        }
}

static void forward_tile(struct queries *q, struct scratch *w, int64_t D, float scale,
                         const struct pairs *pairs, const struct ahead ahead[4])
{
    int64_t from = q->lo / VEC_WIDTH * VEC_WIDTH, to = whole(q->hi);
    tile_scores(w->k, row_stride(D), q->qt, D, scale, pairs->keys, from, to, pairs->seen == DIAGONAL,
                &ahead[0], w->s);
    softmax(q, w->s, pairs, from, to);
    output(q, w->s, w->v, D, pairs, &ahead[1]);
}

static void queries_begin(struct queries *q, int64_t D)
{
    memset(q->o + q->lo * row_stride(D), 0, (size_t)((q->hi - q->lo + ROWS) * row_stride(D)) * sizeof(float));
    for (int i = 0; i < TILE; i++) {
        q->m[i] = -INFINITY;
        q->l[i] = 0.0f;
    }
}

/* Rows from element `at` of out, entries from `lse` on. */
static void queries_end(struct queries *q, int64_t D, const struct hb_tensor *out, int64_t at,
                        int64_t out_row, float *lse, int64_t lse_row)
{
    float log_sum[TILE];
    for (int i = 0; i < TILE; i++)
        log_sum[i] = q->m[i] + hb_logf(q->l[i]);
    for (int64_t i = q->lo; i < q->hi; i++, at += out_row) {
        float *o = q->o + i * row_stride(D), l = q->l[i];
        float *row = out->dtype == HB_F32 ? (float *)out->data + at : o;
        for (int64_t d = 0; d < D; d++)
            row[d] = l == 0.0f ? 0.0f : o[d] / l + 0.0f;
        if (out->dtype != HB_F32)
            hb_narrow(out->dtype, o, D, out->data, at);
        lse[(i - q->lo) * lse_row] = log_sum[i];
    }
}

/* One head and the queries of one piece. */
struct block {
    const struct hb_attention_forward_args *args;
    struct sight sight;
    struct segment s;
    int64_t H, G, D, h, g;
    int64_t begin, end; /* positions */
    int64_t row;        /* of q at position `begin` */
    int64_t tiles;      /* of queries */
    struct scratch *w;
};

/* Keys from position 64 `tile` on to fp32 rows; in a ring they may lie in several runs. */
static void copy_keys(const struct block *b, const struct hb_tensor *t, int64_t tile, int64_t count,
                      float *to)
{
    const struct segment *s = &b->s;
    for (int64_t done = 0; done < count;) {
        int64_t j = tile * TILE + done, row = j, run = count - done;
        if (s->ring && j < s->sinks) {
            run = smaller(run, s->sinks - j);
        } else if (s->ring) {
            row = s->sinks + (j - s->sinks) % (s->ring - s->sinks);
            run = smaller(run, s->ring - row);
        }
        tile_copy(rows_at(t, ((s->k_row + row) * b->G + b->g) * b->D, b->G * b->D), run, b->D,
                  to + done * row_stride(b->D), row_stride(b->D));
        done += run;
    }
}

static void pass_slots(const struct block *b)
{
    static const struct ahead none[4];
    const struct hb_attention_forward_args *args = b->args;
    int64_t M = args->slots_k.data ? args->slots_k.shape[0] : 0, stride = b->G * b->D;
    for (int64_t tile = 0; tile * TILE < M; tile++) {
        struct pairs pairs = {.seen = ALL, .keys = smaller(TILE, M - tile * TILE)};
        int64_t at = (tile * TILE * b->G + b->g) * b->D;
        tile_copy(rows_at(&args->slots_k, at, stride), pairs.keys, b->D, b->w->k, row_stride(b->D));
        tile_copy(rows_at(&args->slots_v, at, stride), pairs.keys, b->D, b->w->v, row_stride(b->D));
        for (int64_t i = 0; i < b->tiles; i++)
            forward_tile(&b->w->tile[i], b->w, b->D, args->scale, &pairs, none);
    }
}

static void pass_keys(const struct block *b)
{
    const struct hb_attention_forward_args *args = b->args;
    struct scratch *w = b->w;
    int64_t H = b->H, G = b->G, D = b->D, stride = G * D;
    struct rows q = rows_at(&args->q, (b->row * H + b->h) * D, H * D);
    struct rows k = rows_at(&args->k, (b->s.k_row * G + b->g) * D, stride);
    struct rows v = rows_at(&args->v, (b->s.k_row * G + b->g) * D, stride);
    struct rows out = rows_at(&args->out, (b->row * H + b->h) * D, H * D), next_q = q;
    next_q.at += D * (int64_t)hb_dtype_size(q.dtype);
    int64_t next_head = ((b->h + 1) / (H / G) - b->g) * D * (int64_t)hb_dtype_size(k.dtype);
    int64_t first = first_tile(&b->sight, b->begin), last = last_tile(&b->sight, b->end, b->s.length);
    for (int64_t kt = sink_tiles(&b->sight) ? 0 : first, next; kt <= last; kt = next) {
        int64_t count = smaller(TILE, b->s.length - kt * TILE);
        next = kt + 1 < sink_tiles(&b->sight) ? kt + 1 : larger(kt + 1, first);
        copy_keys(b, &args->k, kt, count, w->k);
        copy_keys(b, &args->v, kt, count, w->v);
        struct ahead ahead[4] = {{0}};
        if (next <= last) {
            int64_t next_count = smaller(b->s.length - next * TILE, TILE);
            ahead[0] = ahead_of(rows_from(k, next * TILE), next_count, D);
            ahead[1] = ahead_of(rows_from(v, next * TILE), next_count, D);
        } else if (b->h + 1 < H) {
            ahead[0] = ahead_of(k, smaller(b->s.length, TILE), D);
            ahead[1] = ahead_of(v, smaller(b->s.length, TILE), D);
            ahead[0].from += next_head;
            ahead[1].from += next_head;
        }
        if (b->s.ring)
            ahead[0].rows = ahead[1].rows = 0;
        for (int64_t i = b->tiles - 1; i >= 0; i--) {
            struct queries *t = &w->tile[i];
            struct pairs pairs;
            pairs_of(&b->sight, t->index, kt, t->lo, t->hi, count, &pairs);
            if (pairs.seen == NOTHING)
                continue;
            if (pairs.seen == DIAGONAL)
                pairs.keys = t->hi;
            /* When a tile is done: its rows of out, and of the next head's q. */
            bool done = pairs.seen == DIAGONAL;
            ahead[2] = ahead_of(rows_from(out, t->row), done ? t->hi - t->lo : 0, D);
            ahead[3] = ahead_of(rows_from(next_q, t->row), done ? t->hi - t->lo : 0, D);
            forward_tile(t, w, D, args->scale, &pairs, ahead);
            ahead[0].rows = ahead[1].rows = 0;
        }
    }
}

/* out from slots_out and rest_out, as they were stored. */
static void combine(const struct block *b, const struct queries *q)
{
    const struct hb_attention_forward_args *args = b->args;
    bool gated = args->combine == HB_GATED;
    float gate = 0.0f, *slots_room = b->w->k, *rest_room = b->w->v, *out = b->w->s;
    if (gated)
        hb_widen(args->gate.dtype, args->gate.data, b->h, 1, &gate);
    float weight = hb_sigmoidf(gate);
    for (int64_t i = q->lo; i < q->hi; i++) {
        int64_t at = ((b->row + q->row + i - q->lo) * b->H + b->h) * b->D;
        const float *slots = hb_read(&args->slots_out, at, b->D, slots_room);
        const float *rest = hb_read(&args->rest_out, at, b->D, rest_room);
        for (int64_t d = 0; d < b->D; d += TILE) {
            int64_t n = smaller(TILE, b->D - d);
            for (int64_t e = 0; e < n; e++)
                out[e] = gated ? fmaf(weight, slots[d + e], (1.0f - weight) * rest[d + e])
                               : slots[d + e] + rest[d + e];
            hb_narrow(args->out.dtype, out, n, args->out.data, at + d);
        }
    }
}

static void finish(const struct block *b, const struct hb_tensor *out, const struct hb_tensor *lse)
{
    for (int64_t i = 0; i < b->tiles; i++) {
        int64_t row = (b->row + b->w->tile[i].row) * b->H + b->h;
        queries_end(&b->w->tile[i], b->D, out, row * b->D, b->H * b->D, (float *)lse->data + row, b->H);
    }
}

static void forward_block(const struct hb_attention_forward_args *args, const struct piece *piece, int64_t h,
                          struct scratch *w)
{
    struct block b = {.args = args,
                      .sight = {args->window, args->sinks, args->bidirectional},
                      .s = segment_at(&args->q_begin, &args->k_begin, piece->segment),
                      .H = args->q.shape[1],
                      .G = args->k.shape[1],
                      .D = args->q.shape[2],
                      .h = h,
                      .w = w};
    if (args->ring) {
        b.s.ring = args->ring;
        b.s.sinks = args->sinks;
        b.s.k_row = piece->segment * args->ring;
    }
    b.g = h / (b.H / b.G);
    b.begin = larger(b.s.first, (int64_t)piece->index * BLOCK);
    b.end = smaller(b.s.length, ((int64_t)piece->index + 1) * BLOCK);
    b.row = b.s.q_row + b.begin - b.s.first;
    struct rows q = rows_at(&args->q, (b.row * b.H + h) * b.D, b.H * b.D);
    for (int64_t index = b.begin / TILE; index <= (b.end - 1) / TILE; index++) {
        struct queries *t = &w->tile[b.tiles++];
        int64_t stride;
        t->index = index;
        t->lo = larger(b.begin - index * TILE, 0);
        t->hi = smaller(b.end - index * TILE, TILE);
        t->row = index * TILE + t->lo - b.begin;
        const float *rows = tile_read(rows_from(q, t->row), t->hi - t->lo, b.D, t->o, &stride);
        tile_transpose(rows, stride, t->lo, t->hi, b.D, t->qt);
        queries_begin(t, b.D);
    }
    pass_slots(&b);
    if (args->combine != HB_JOINT) {
        finish(&b, &args->slots_out, &args->slots_lse);
        for (int64_t i = 0; i < b.tiles; i++)
            queries_begin(&w->tile[i], b.D);
    }
    pass_keys(&b);
    finish(&b, args->combine == HB_JOINT ? &args->out : &args->rest_out, &args->lse);
    for (int64_t i = 0; args->combine != HB_JOINT && i < b.tiles; i++)
        combine(&b, &w->tile[i]);
}

hb_status HB_CPU(attention_forward)(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    int64_t H = args->q.shape[1], D = args->q.shape[2];
    struct plan plan = plan_of(&args->q_begin, &args->k_begin, BLOCK);
    int threads = attention_threads(context, plan.pairs * (double)(H * D));

    char *memory = NULL;
    size_t plan_bytes = 0, scratch_bytes = 0;
    scratch_in(&memory, &scratch_bytes, D);
    plan_in(&plan, &memory, &plan_bytes);
    void *workspace;
    HB_TRY(hb_host_workspace(context, plan_bytes + (size_t)threads * scratch_bytes, &workspace));
    memory = workspace;
    plan_bytes = 0;
    plan_in(&plan, &memory, &plan_bytes);
    plan_sort(&plan, &args->q_begin, &args->k_begin, BLOCK, true);

    /* Where there are pieces enough, a thread keeps all heads of one: their rows lie side by side. */
    int64_t heads = plan.pieces >= 8 * threads ? H : 1;
#pragma omp parallel num_threads(threads)
    {
        size_t used = plan_bytes + (size_t)omp_get_thread_num() * scratch_bytes;
        struct scratch *w = scratch_in(&memory, &used, D);
#pragma omp for schedule(dynamic, heads)
        for (int64_t i = 0; i < plan.pieces * H; i++)
            forward_block(args, &plan.piece[i / H], i % H, w);
    }
    return HB_OK;
}
