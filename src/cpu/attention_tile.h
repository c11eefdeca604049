/* The products of attention on a tile of 64 keys by 64 queries, in registers.
 *
 * Every product is out[r][c] = chain over k of a(r, k) b[k][c], by ROWS rows and
 * one or two registers of columns at a time. Scores keep the queries in the
 * lanes, so that maximum, exp and row sum of a query need nothing from other
 * lanes; the other products keep the head width in the lanes:
 *
 *     product  rows     k        columns  a                   b
 *     S^T      keys     d        queries  K    [key][d]       Q^T  [d][query], panels
 *     dP^T     keys     d        queries  V    [key][d]       dO^T [d][query], panels
 *     O        queries  keys     d        P^T  [key][query]   V    [key][d]
 *     dQ       queries  keys     d        dS^T [key][query]   K    [key][d]
 *     dV       keys     queries  d        P^T  [key][query]   dO   [query][d]
 *     dK       keys     queries  d        dS^T [key][query]   Q    [query][d]
 *
 * A pair that is not seen has no place in any chain. On the diagonal the chain of
 * query r ends at key r and the chain of key r begins at query r; where a tile is
 * cut otherwise, a bit per pair decides (attention_mask.h). Rows beyond the last are
 * computed from whatever lies there and nobody looks at them: buffers have
 * PADDED rows. */
#ifndef HB_CPU_ATTENTION_TILE_H
#define HB_CPU_ATTENTION_TILE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/tensor.h"
#include "cpu/convert.h"
#include "cpu/vec.h"

enum {
    TILE = 64,
    CHAIN = 256,
#if VEC_WIDTH == 16
    ROWS = 8,
#elif VEC_WIDTH == 8
    ROWS = 6,
#else
    ROWS = 4,
#endif
    PADDED = TILE + ROWS,
    PANEL = 2 * VEC_WIDTH,
    /* Rows of a buffer lie an odd number of cache lines apart, or a column of it would crowd a few
     * sets of the cache. */
    SKEW = 16,
    SCORES = TILE + SKEW, /* row stride of S, P, dP, dS */
};

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* x rounded up to whole registers. */
static inline int64_t whole(int64_t x)
{
    return (x + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
}

/* Row stride of a copied tile of q, k, v or dO. */
static inline int64_t row_stride(int64_t D)
{
    return whole(D) + SKEW;
}

/* One step k: a(r) b[c] for the rows from <= r < to; n = 1 or 2 registers. */
INLINE void step(vec acc[ROWS][2], int n, int from, int to, const float *a, int64_t a_row, const float *b)
{
    vec b0 = vec_load(b), b1 = n == 2 ? vec_load(b + VEC_WIDTH) : b0;
    UNROLL
    for (int r = 0; r < ROWS; r++)
        if (r >= from && r < to) {
            vec x = vec_set1(a[r * a_row]);
            acc[r][0] = vec_fma(x, b0, acc[r][0]);
            if (n == 2)
                acc[r][1] = vec_fma(x, b1, acc[r][1]);
        }
}

INLINE void clear(vec acc[ROWS][2])
{
    UNROLL
    for (int r = 0; r < ROWS; r++)
        acc[r][0] = acc[r][1] = vec_zero();
}

/* S^T, dP^T: chains of 256 over the head width, chain sums added ascending, times scale. */
INLINE void score_rows(int n, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t D,
                       float scale, float *out)
{
    for (int64_t begin = 0; begin < D; begin += CHAIN) {
        int64_t end = smaller(D, begin + CHAIN);
        float factor = end == D ? scale : 1.0f;
        vec acc[ROWS][2];
        clear(acc);
        for (int64_t d = begin; d < end; d++)
            step(acc, n, 0, ROWS, a + d, lda, b + d * ldb);
        UNROLL
        for (int r = 0; r < ROWS; r++)
            UNROLL
        for (int c = 0; c < n; c++) {
            float *at = out + r * SCORES + c * VEC_WIDTH;
            vec total = begin == 0 ? acc[r][c] : vec_add(vec_load(at), acc[r][c]);
            vec_store(at, vec_mul(vec_set1(factor), total));
        }
    }
}

/* O, dQ: rows are queries, a [key][query]. All rows see `common` keys; on the
 * diagonal row r sees r more. */
INLINE void query_rows(vec acc[ROWS][2], int n, const float *a, const float *b, int64_t ldb, int64_t common,
                       bool diagonal)
{
    clear(acc);
    for (int64_t k = 0; k < common; k++)
        step(acc, n, 0, ROWS, a + k * SCORES, 1, b + k * ldb);
    if (diagonal) {
        a += (common - 1) * SCORES;
        b += (common - 1) * ldb;
        UNROLL
        for (int t = 1; t < ROWS; t++)
            step(acc, n, t, ROWS, a + t * SCORES, 1, b + t * ldb);
    }
}

/* dV, dK: rows are keys, a [key][query]. Queries begin .. end - 1; on the
 * diagonal row r begins r later. */
INLINE void key_rows(vec acc[ROWS][2], int n, const float *a, const float *b, int64_t ldb, int64_t begin,
                     int64_t end, bool diagonal)
{
    clear(acc);
    int64_t k = begin;
    if (diagonal) {
        UNROLL
        for (int t = 0; t < ROWS; t++)
            if (k + t < end)
                step(acc, n, 0, t + 1, a + k + t, SCORES, b + (k + t) * ldb);
        k += ROWS;
    }
    for (; k < end; k++)
        step(acc, n, 0, ROWS, a + k, SCORES, b + k * ldb);
}

/* O, dQ, dV, dK where a tile is cut: bit r + i of bits[k] says whether row i has
 * step k. The chain over k of row i is at a[i a_row + k a_k]. */
INLINE void some_rows(vec acc[ROWS][2], int n, const float *a, int64_t a_row, int64_t a_k, const float *b,
                      int64_t ldb, const uint64_t *bits, int64_t count, int64_t r)
{
    uint64_t all = ((uint64_t)1 << smaller(ROWS, TILE - r)) - 1;
    clear(acc);
    for (int64_t k = 0; k < count; k++, a += a_k, b += ldb) {
        uint64_t some = bits[k] >> r & all;
        if (some == all) {
            step(acc, n, 0, ROWS, a, a_row, b);
        } else if (some) {
            UNROLL
            for (int i = 0; i < ROWS; i++)
                if (some >> i & 1)
                    step(acc, n, i, i + 1, a, a_row, b);
        }
    }
}

/* Rows of one head in a tensor, in its storage: `stride` elements apart. */
struct rows {
    const char *at;
    enum hb_dtype dtype;
    int64_t stride;
};

static inline struct rows rows_at(const struct hb_tensor *t, int64_t element, int64_t stride)
{
    return (struct rows){(const char *)t->data + element * (int64_t)hb_dtype_size(t->dtype), t->dtype,
                         stride};
}

static inline struct rows rows_from(struct rows rows, int64_t row)
{
    rows.at += row * rows.stride * (int64_t)hb_dtype_size(rows.dtype);
    return rows;
}

/* Rows that will be needed soon. They lie far apart, where no processor fetches
 * them unasked, so products ask for a few at a time while they compute. In bytes. */
struct ahead {
    const char *from;
    int64_t stride, rows, width;
};

static inline struct ahead ahead_of(struct rows rows, int64_t count, int64_t D)
{
    int64_t size = (int64_t)hb_dtype_size(rows.dtype);
    return (struct ahead){rows.at, rows.stride * size, count, D * size};
}

static inline void fetch(const struct ahead *ahead, int64_t row)
{
    for (int64_t r = row; r < ahead->rows && r < row + ROWS; r++)
        for (int64_t d = 0; d < ahead->width; d += 64)
            __builtin_prefetch(ahead->from + r * ahead->stride + d, 0, 2);
}

/* Columns of the panel that has column c, of `columns` in all. The last may have one register only. */
static inline int64_t panel_width(int64_t c, int64_t columns)
{
    return smaller(PANEL, columns - c / PANEL * PANEL);
}

/* Scores of keys 0 .. keys - 1 and the queries of columns [from, to), whole
 * registers. On the diagonal, registers that are masked for all of a group of
 * rows stay as they are. */
static inline void tile_scores(const float *a, int64_t lda, const float *b, int64_t D, float scale,
                               int64_t keys, int64_t from, int64_t to, bool diagonal,
                               const struct ahead *ahead, float *out)
{
    for (int64_t r = 0; r < keys; r += ROWS) {
        fetch(ahead, r);
        for (int64_t c = diagonal ? larger(from, r / VEC_WIDTH * VEC_WIDTH) : from; c < to;) {
            int64_t ldb = panel_width(c, to);
            const float *panel = b + c / PANEL * PANEL * D + c % PANEL;
            float *at = out + r * SCORES + c;
            if (c % PANEL == 0 && ldb == PANEL) {
                score_rows(2, a + r * lda, lda, panel, ldb, D, scale, at);
                c += PANEL;
            } else {
                score_rows(1, a + r * lda, lda, panel, ldb, D, scale, at);
                c += VEC_WIDTH;
            }
        }
    }
}

/* Copy of rows to fp32 rows that lie `to_stride` apart, zeros from D to whole
 * registers. */
static inline void tile_copy(struct rows from, int64_t count, int64_t D, float *to, int64_t to_stride)
{
    int64_t full = D / VEC_WIDTH * VEC_WIDTH;
    for (int64_t r = 0; r < count; r++, to += to_stride) {
        const void *row = rows_from(from, r).at;
        if (from.dtype == HB_F32)
            for (int64_t d = 0; d < full; d += VEC_WIDTH)
                vec_store(to + d, vec_load((const float *)row + d));
        else
            hb_widen(from.dtype, row, 0, full, to);
        if (full < D)
            hb_widen(from.dtype, row, full, D - full, to + full);
        for (int64_t d = D; d < whole(D); d++)
            to[d] = 0.0f;
    }
}

/* The rows as fp32, *stride apart: where they lie, or widened in `room`, [PADDED] rows. */
static inline const float *tile_read(struct rows from, int64_t count, int64_t D, float *room, int64_t *stride)
{
    *stride = from.dtype == HB_F32 ? from.stride : row_stride(D);
    if (from.dtype == HB_F32)
        return (const void *)from.at;
    tile_copy(from, count, D, room, *stride);
    return room;
}

typedef float quad __attribute__((vector_size(16)));

/* Transposed copy in panels [D][panel_width] of rows that lie `stride` apart: the
 * first becomes column lo, the last hi - 1 of whole(hi) columns. The rest of their
 * registers is zero: numbers like others, at which nobody will look. */
static inline void tile_transpose(const float *from, int64_t stride, int64_t lo, int64_t hi, int64_t D,
                                  float *to)
{
    static const float zeros[4];
    for (int64_t c = lo / VEC_WIDTH * VEC_WIDTH; c < whole(hi); c += 4) {
        const float *row[4];
        int64_t width = panel_width(c, whole(hi));
        float *panel = to + c / PANEL * PANEL * D + c % PANEL;
        for (int i = 0; i < 4; i++)
            row[i] = c + i >= lo && c + i < hi ? from + (c + i - lo) * stride : NULL;
        int64_t d = 0;
        for (; d + 4 <= D; d += 4) {
            quad x[4];
            for (int i = 0; i < 4; i++)
                memcpy(&x[i], row[i] ? row[i] + d : zeros, sizeof x[i]);
            quad low01 = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
            quad low23 = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
            quad high01 = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
            quad high23 = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
            x[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
            x[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
            x[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
            x[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
            for (int i = 0; i < 4; i++)
                memcpy(panel + (d + i) * width, &x[i], sizeof x[i]);
        }
        for (; d < D; d++)
            for (int i = 0; i < 4; i++)
                panel[d * width + i] = row[i] ? row[i][d] : 0.0f;
    }
}

#endif
