/* Attention forward: numerics.md rule 12, queries in the lanes.
 *
 * A thread takes one head and BLOCK queries of a segment and passes over the
 * keys tile by tile. Keys and values are copied into rows next to each other:
 * as they lie, H D apart, they would fight for the same cache sets. */
#include "ops/attention.h"

#include <math.h>
#include <omp.h>

#include "core/math.h"
#include "cpu/attention_plan.h"
#include "cpu/attention_tile.h"
#include "cpu/cpu.h"

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
    for (int64_t i = 0; i < count / VEC_WIDTH * VEC_WIDTH; i++)
        x[i] = hb_expf(x[i] - shift[i]);
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

/* Scores of `keys` keys and the queries of columns [from, to) become P; moves m
 * and l on and leaves the factor of what was before in a. Each step goes over
 * all queries, so that no step waits for the end of the one before. */
static void softmax(struct queries *q, float *s, int64_t keys, int64_t from, int64_t to, bool diagonal)
{
    static const float zeros[VEC_WIDTH];
    float shift[TILE];
    /* Key 0 is seen by all, so its scores in place of masked ones leave the maxima as they are. (With
     * -infinity there, exp would underflow, which costs more than all the rest of it.) */
    for (int64_t j = 1; diagonal && j < keys; j++)
        mask(s, j, s + j / VEC_WIDTH * VEC_WIDTH);
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
        exp_lanes(s + j * SCORES + seen, shift + seen, to - seen);
        if (diagonal)
            mask(s, j, zeros);
    }
    for (int64_t j = keys; j < TILE; j++)
        for (int64_t c = from; c < to; c += VEC_WIDTH)
            vec_store(s + j * SCORES + c, vec_zero());
    for (int64_t c = from; c < to; c += VEC_WIDTH)
        vec_store(q->l + c, vec_fma(vec_load(q->a + c), vec_load(q->l + c), row_sum(s + c)));
}

INLINE void output_rows(int n, const float *p, const float *v, const float *a, int64_t stride, int64_t common,
                        bool diagonal, float *o)
{
    vec acc[ROWS][2];
    query_rows(acc, n, p, v, stride, common, diagonal);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
    for (int c = 0; c < n; c++) {
        float *at = o + r * stride + c * VEC_WIDTH;
        vec_store(at, vec_fma(vec_set1(a[r]), vec_load(at), acc[r][c]));
    }
}

/* O = fmaf(a, O, P V) */
static void output(struct queries *q, const float *p, const float *v, int64_t D, bool diagonal,
                   const struct ahead ahead[3])
{
    int64_t stride = row_stride(D);
    for (int64_t c = 0; c < D; c += PANEL)
        for (int64_t r = q->lo; r < q->hi; r += ROWS) {
            int64_t common = diagonal ? r + 1 : TILE;
            float *o = q->o + r * stride + c;
            for (int i = 0; c == 0 && i < 3; i++)
                fetch(&ahead[i], r - q->lo);
            if (c + VEC_WIDTH < D)
                output_rows(2, p + r, v + c, q->a + r, stride, common, diagonal, o);
            else
                output_rows(1, p + r, v + c, q->a + r, stride, common, diagonal, o);
        }
}

static void forward_tile(struct queries *q, struct scratch *w, int64_t D, float scale, bool diagonal,
                         const struct ahead ahead[4])
{
    int64_t keys = diagonal ? q->hi : TILE;
    int64_t from = q->lo / VEC_WIDTH * VEC_WIDTH, to = whole(q->hi);
    tile_scores(w->k, row_stride(D), q->qt, D, scale, keys, from, to, diagonal, &ahead[0], w->s);
    softmax(q, w->s, keys, from, to, diagonal);
    output(q, w->s, w->v, D, diagonal, &ahead[1]);
}

static void queries_begin(struct queries *q, const float *from, int64_t stride, int64_t D)
{
    tile_transpose(from, stride, q->lo, q->hi, D, q->qt);
    memset(q->o + q->lo * row_stride(D), 0, (size_t)((q->hi - q->lo + ROWS) * row_stride(D)) * sizeof(float));
    for (int i = 0; i < TILE; i++) {
        q->m[i] = -INFINITY;
        q->l[i] = 0.0f;
    }
}

static void queries_end(const struct queries *q, int64_t D, float *out, int64_t out_row, float *lse,
                        int64_t lse_row)
{
    float log_sum[TILE];
    for (int i = 0; i < TILE; i++)
        log_sum[i] = q->m[i] + hb_logf(q->l[i]);
    for (int64_t i = q->lo; i < q->hi; i++) {
        const float *o = q->o + i * row_stride(D);
        float l = q->l[i], *row = out + (i - q->lo) * out_row;
        for (int64_t d = 0; d < D; d++)
            row[d] = l == 0.0f ? 0.0f : o[d] / l + 0.0f;
        lse[(i - q->lo) * lse_row] = log_sum[i];
    }
}

static void forward_block(const struct hb_attention_forward_args *args, const struct piece *piece, int64_t h,
                          struct scratch *w)
{
    int64_t H = args->q.shape[1], G = args->k.shape[1], D = args->q.shape[2], g = h / (H / G);
    struct segment s = segment_at(&args->q_begin, &args->k_begin, piece->segment);
    int64_t begin = larger(s.first, (int64_t)piece->index * BLOCK);
    int64_t end = smaller(s.length, ((int64_t)piece->index + 1) * BLOCK);
    int64_t row = s.q_row + begin - s.first; /* of q at position `begin` */
    const float *q = (const float *)args->q.data + (row * H + h) * D;
    const float *k = (const float *)args->k.data + (s.k_row * G + g) * D;
    const float *v = (const float *)args->v.data + (s.k_row * G + g) * D;
    float *out = (float *)args->out.data + (row * H + h) * D, *lse = (float *)args->lse.data + row * H + h;

    int64_t tiles = 0, last = (end - 1) / TILE;
    for (int64_t index = begin / TILE; index <= last; index++) {
        struct queries *t = &w->tile[tiles++];
        t->index = index;
        t->lo = larger(begin - index * TILE, 0);
        t->hi = smaller(end - index * TILE, TILE);
        t->row = index * TILE + t->lo - begin;
        queries_begin(t, q + t->row * H * D, H * D, D);
    }
    int64_t next_head = ((h + 1) / (H / G) - g) * D;
    for (int64_t kt = 0; kt <= last; kt++) {
        int64_t at = kt * TILE * G * D, next = kt < last ? at + TILE * G * D : next_head;
        int64_t next_keys = smaller(kt < last ? end - (kt + 1) * TILE : end, TILE);
        tile_copy(k + at, G * D, smaller(end - kt * TILE, TILE), D, w->k, row_stride(D));
        tile_copy(v + at, G * D, smaller(end - kt * TILE, TILE), D, w->v, row_stride(D));
        struct ahead ahead[4] = {{k + next, G * D, next_keys, D}, {v + next, G * D, next_keys, D}};
        for (int64_t i = tiles - 1; i >= 0; i--) {
            const struct queries *t = &w->tile[i];
            bool diagonal = kt == t->index;
            if (kt > t->index)
                continue;
            /* When a tile is done: its rows of out, and of the next head's q. */
            ahead[2] = (struct ahead){out + t->row * H * D, H * D, diagonal ? t->hi - t->lo : 0, D};
            ahead[3] = (struct ahead){q + t->row * H * D + D, H * D, diagonal ? t->hi - t->lo : 0, D};
            forward_tile(&w->tile[i], w, D, args->scale, diagonal, ahead);
            ahead[0].rows = ahead[1].rows = 0;
        }
    }
    for (int64_t i = 0; i < tiles; i++) {
        int64_t row_i = w->tile[i].row;
        queries_end(&w->tile[i], D, out + row_i * H * D, H * D, lse + row_i * H, H);
    }
}

hb_status HB_CPU(attention_forward)(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    if (args->bidirectional || args->window || args->sinks || args->slots_k.data)
        return HB_FAIL(HB_EUNSUPPORTED, "cpu has no attention with windows, sinks or slots yet; choose ref");
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
