/* The inner kernel of products: a tile of out held in registers.
 *
 * One call runs one chain (at most 256 steps of k, from +0) for up to TILE_ROWS
 * rows and TILE_COLUMNS columns, columns in the lanes, and then stores the sums
 * or adds them to out. Every lane is its own chain of vec_fma, so tile shapes
 * do not change bits. */
#ifndef HB_CPU_TILE_H
#define HB_CPU_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/vec.h"

/* As many accumulators as the registers hold beside two of b and one of a. */
#if VEC_WIDTH == 16
#define TILE_ROWS 14
#else
#define TILE_ROWS 6
#endif
#define TILE_COLUMNS (2 * VEC_WIDTH)
#define TILE_DEPTH 256 /* rule 1: the length of a chain */
/* Row stride of a copied tile of a: no power of two, so that rows do not share cache sets. */
#define TILE_STRIDE (TILE_DEPTH + 16)

enum tile_end { TILE_STORE, TILE_ADD, TILE_STREAM };

/* Memory that will be needed next, fetched a few lines at a time while a tile
 * computes: `rows` pieces of `lines` cache lines, `skip` bytes from the end of
 * one to the next. */
struct ahead {
    const char *at;
    int64_t lines, left; /* per piece; of this piece */
    int64_t rows;        /* pieces left, this one included */
    int64_t skip;
    int rate; /* lines per 4 steps of k; 0: nothing (left) to fetch */
};

struct tile {
    const float *a; /* by_k: (i, p) at a[p a_step + i]; else at a[i a_row + p] */
    bool by_k;
    ptrdiff_t a_row, a_step;
    const float *b; /* (p, j) at b[p b_step + j] */
    ptrdiff_t b_step;
    int64_t depth;
    float *out;
    ptrdiff_t out_row;
    enum tile_end end;
    struct ahead *ahead; /* [2]: of b and of a */
};

#define TILE_INLINE static inline __attribute__((always_inline))

/* Accumulators stay in registers only if loops over rows vanish. gcc, left alone,
 * unrolls the steps of k so far that it moves registers about. */
#ifdef __clang__
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#define TILE_PAIRS
#else
#define TILE_UNROLL _Pragma("GCC unroll 16")
#define TILE_PAIRS _Pragma("GCC unroll 2")
#endif

TILE_INLINE void ahead_fetch(struct ahead *ahead)
{
    for (int i = 0; i < ahead->rate; i++) {
        __builtin_prefetch(ahead->at, 0, 2);
        ahead->at += 64;
        if (--ahead->left == 0) {
            ahead->at += ahead->skip;
            ahead->left = ahead->lines;
            if (--ahead->rows == 0)
                ahead->rate = 0;
        }
    }
}

/* Rows 4 g and on begin at a[g]: with so few pointers every row is within reach of a load's address. */
TILE_INLINE void tile_step(int rows, const float *const a[4], ptrdiff_t a_row, const float *b,
                           vec acc[TILE_ROWS][2])
{
    vec left = vec_load(b), right = vec_load(b + VEC_WIDTH);
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        vec x = vec_set1(a[i / 4][i % 4 * a_row]);
        acc[i][0] = vec_fma(x, left, acc[i][0]);
        acc[i][1] = vec_fma(x, right, acc[i][1]);
    }
}

TILE_INLINE void tile_chain(int rows, const struct tile *t, ptrdiff_t a_row, ptrdiff_t a_step,
                            vec acc[TILE_ROWS][2])
{
    const float *a[4] = {t->a, t->a + 4 * a_row, t->a + 8 * a_row, t->a + 12 * a_row}, *b = t->b;
    ptrdiff_t b_step = t->b_step;
    int64_t p = t->depth;
    for (; p >= 4; p -= 4) {
        ahead_fetch(&t->ahead[0]);
        ahead_fetch(&t->ahead[1]);
        TILE_PAIRS
        for (int u = 0; u < 4; u++) {
            tile_step(rows, a, a_row, b, acc);
            for (int g = 0; g < 4; g++)
                a[g] += a_step;
            b += b_step;
        }
    }
    for (; p > 0; p--) {
        tile_step(rows, a, a_row, b, acc);
        for (int g = 0; g < 4; g++)
            a[g] += a_step;
        b += b_step;
    }
}

TILE_INLINE void tile_store(int rows, const struct tile *t, vec acc[TILE_ROWS][2])
{
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        vec_store(t->out + i * t->out_row, acc[i][0]);
        vec_store(t->out + i * t->out_row + VEC_WIDTH, acc[i][1]);
    }
}

TILE_INLINE void tile_add(int rows, const struct tile *t, vec acc[TILE_ROWS][2])
{
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        float *out = t->out + i * t->out_row;
        vec_store(out, vec_add(vec_load(out), acc[i][0]));
        vec_store(out + VEC_WIDTH, vec_add(vec_load(out + VEC_WIDTH), acc[i][1]));
    }
}

TILE_INLINE void tile_stream(int rows, const struct tile *t, vec acc[TILE_ROWS][2])
{
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        vec_stream(t->out + i * t->out_row, acc[i][0]);
        vec_stream(t->out + i * t->out_row + VEC_WIDTH, acc[i][1]);
    }
}

TILE_INLINE void tile_fetch_out(int rows, const struct tile *t)
{
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(t->out + i * t->out_row, 1);
        __builtin_prefetch(t->out + i * t->out_row + VEC_WIDTH, 1);
    }
}

TILE_INLINE void tile_rows(int rows, const struct tile *t)
{
    vec acc[TILE_ROWS][2];
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = vec_zero();
        acc[i][1] = vec_zero();
    }
    if (t->end != TILE_STREAM)
        tile_fetch_out(rows, t);
    if (t->by_k)
        tile_chain(rows, t, 1, t->a_step, acc);
    else if (t->a_row == TILE_STRIDE)
        tile_chain(rows, t, TILE_STRIDE, 1, acc);
    else
        tile_chain(rows, t, t->a_row, 1, acc);
    if (t->end == TILE_STORE)
        tile_store(rows, t, acc);
    else if (t->end == TILE_ADD)
        tile_add(rows, t, acc);
    else
        tile_stream(rows, t, acc);
}

/* One function per number of rows, so that the accumulators have fixed registers. */
#define TILE_OF(rows)                                                       \
    static __attribute__((noinline)) void tile_##rows(const struct tile *t) \
    {                                                                       \
        tile_rows(rows, t);                                                 \
    }
TILE_OF(1)
TILE_OF(2)
TILE_OF(3)
TILE_OF(4)
TILE_OF(5)
TILE_OF(6)
#if TILE_ROWS > 6
TILE_OF(7)
TILE_OF(8)
TILE_OF(9)
TILE_OF(10)
TILE_OF(11)
TILE_OF(12)
TILE_OF(13)
TILE_OF(14)
#endif
#undef TILE_OF

static void (*const tile_run[TILE_ROWS + 1])(const struct tile *t) = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,  tile_5,  tile_6,
#if TILE_ROWS > 6
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14,
#endif
};

#endif
