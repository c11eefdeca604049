/* Operands of a product, copied into the order in which cpu/tile.h reads them,
 * and widened to fp32 on the way: element e of an operand is element `from` + e
 * of an array `data` of its dtype. */
#ifndef HB_CPU_PACK_H
#define HB_CPU_PACK_H

#include <string.h>

#include "cpu/convert.h"
#include "cpu/tile.h"

/* A square of VEC_WIDTH rows, transposed: to[p TILE_COLUMNS + row] = from[row ld + p]. */
#if VEC_WIDTH == 16

static inline __m512 pack_low_pairs(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

static inline __m512 pack_high_pairs(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

/* Whole rows are read at once: with rows a power of two apart, all 16 lines lie
 * in one set of the level-1 cache, which would lose them before a second look. */
static inline void pack_square(const float *from, ptrdiff_t ld, float *to)
{
    __m512 x[16], y[16];
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_loadu_ps(from + i * ld);
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = pack_low_pairs(y[i], y[i + 2]);
        x[i + 1] = pack_high_pairs(y[i], y[i + 2]);
        x[i + 2] = pack_low_pairs(y[i + 1], y[i + 3]);
        x[i + 3] = pack_high_pairs(y[i + 1], y[i + 3]);
    }
    /* x[4 g + c] now holds, in its four parts, columns c, 4 + c, 8 + c, 12 + c of rows 4 g .. 4 g + 3. */
    for (int c = 0; c < 4; c++) {
        __m512 even01 = _mm512_shuffle_f32x4(x[c], x[4 + c], 0x88),
               odd01 = _mm512_shuffle_f32x4(x[c], x[4 + c], 0xdd);
        __m512 even23 = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0x88);
        __m512 odd23 = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0xdd);
        vec_store(to + c * TILE_COLUMNS, _mm512_shuffle_f32x4(even01, even23, 0x88));
        vec_store(to + (4 + c) * TILE_COLUMNS, _mm512_shuffle_f32x4(odd01, odd23, 0x88));
        vec_store(to + (8 + c) * TILE_COLUMNS, _mm512_shuffle_f32x4(even01, even23, 0xdd));
        vec_store(to + (12 + c) * TILE_COLUMNS, _mm512_shuffle_f32x4(odd01, odd23, 0xdd));
    }
}

#elif VEC_WIDTH == 8

/* Registers take 4 columns of all rows, row 4 l + r in half l of register r, so
 * that one transposition of 4 x 4 inside the halves is all there is to do. */
static inline __m256 pack_halves(const float *from, ptrdiff_t ld)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), _mm_loadu_ps(from + 4 * ld), 1);
}

static inline void pack_square(const float *from, ptrdiff_t ld, float *to)
{
    for (int q = 0; q < 8; q += 4) {
        __m256 x0 = pack_halves(from + q, ld), x1 = pack_halves(from + ld + q, ld);
        __m256 x2 = pack_halves(from + 2 * ld + q, ld), x3 = pack_halves(from + 3 * ld + q, ld);
        __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(x0, x1));
        __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(x0, x1));
        __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(x2, x3));
        __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(x2, x3));
        float *t = to + q * TILE_COLUMNS;
        vec_store(t, _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
        vec_store(t + TILE_COLUMNS, _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
        vec_store(t + 2 * TILE_COLUMNS, _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
        vec_store(t + 3 * TILE_COLUMNS, _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
    }
}

#else

static inline void pack_square(const float *from, ptrdiff_t ld, float *to)
{
    for (int row = 0; row < VEC_WIDTH; row++)
        for (int p = 0; p < VEC_WIDTH; p++)
            to[p * TILE_COLUMNS + row] = from[row * ld + p];
}

#endif

/* A panel of b: panel[p TILE_COLUMNS + j] = b[j ld + p], for b that lies [n,k].
 * Columns beyond `columns` become 0; nobody keeps their results. */
static inline void pack_across(const float *b, ptrdiff_t ld, int64_t columns, int64_t depth, float *panel)
{
    int64_t whole = columns / VEC_WIDTH * VEC_WIDTH, deep = depth / 16 * 16;
    for (int64_t j = 0; j < whole; j += VEC_WIDTH) {
        /* 16 steps of k at a time: whole cache lines of each row. */
        for (int64_t p = 0; p < deep; p += 16)
            for (int64_t q = p; q < p + 16; q += VEC_WIDTH)
                pack_square(b + j * ld + q, ld, panel + q * TILE_COLUMNS + j);
        for (int64_t p = deep; p < depth; p++)
            for (int64_t l = j; l < j + VEC_WIDTH; l++)
                panel[p * TILE_COLUMNS + l] = b[l * ld + p];
    }
    for (int64_t j = whole; j < TILE_COLUMNS; j++)
        for (int64_t p = 0; p < depth; p++)
            panel[p * TILE_COLUMNS + j] = j < columns ? b[j * ld + p] : 0.0f;
}

/* The same for b that lies [k,n]: panel[p TILE_COLUMNS + j] = b[p ld + j]. */
static inline void pack_along(const float *b, ptrdiff_t ld, int64_t columns, int64_t depth, float *panel)
{
    if (columns == TILE_COLUMNS) {
        for (int64_t p = 0; p < depth; p++) {
            vec_store(panel + p * TILE_COLUMNS, vec_load(b + p * ld));
            vec_store(panel + p * TILE_COLUMNS + VEC_WIDTH, vec_load(b + p * ld + VEC_WIDTH));
        }
        return;
    }
    for (int64_t p = 0; p < depth; p++)
        for (int64_t j = 0; j < TILE_COLUMNS; j++)
            panel[p * TILE_COLUMNS + j] = j < columns ? b[p * ld + j] : 0.0f;
}

/* Both for b in 16 bits. Across, 64 steps of k of all columns are widened first, into the level-1 cache. */
static inline void pack_across_16(enum hb_dtype dtype, const void *data, int64_t from, ptrdiff_t ld,
                                  int64_t columns, int64_t depth, float *panel)
{
    enum { STEPS = 64, STRIDE = STEPS + 16 };
    float wide[TILE_COLUMNS * STRIDE];
    for (int64_t p = 0; p < depth; p += STEPS) {
        int64_t steps = depth - p < STEPS ? depth - p : STEPS;
        for (int64_t j = 0; j < columns; j++)
            hb_widen(dtype, data, from + j * ld + p, steps, wide + j * STRIDE);
        pack_across(wide, STRIDE, columns, steps, panel + p * TILE_COLUMNS);
    }
}

static inline void pack_along_16(enum hb_dtype dtype, const void *data, int64_t from, ptrdiff_t ld,
                                 int64_t columns, int64_t depth, float *panel)
{
    for (int64_t p = 0; p < depth; p++) {
        float *to = panel + p * TILE_COLUMNS;
        if (columns == TILE_COLUMNS) {
            hb_widen(dtype, data, from + p * ld, TILE_COLUMNS, to);
            continue;
        }
        hb_widen(dtype, data, from + p * ld, columns, to);
        for (int64_t j = columns; j < TILE_COLUMNS; j++)
            to[j] = 0.0f;
    }
}

/* Rows of a that lies [m,k]: tile[i TILE_STRIDE + p] = a[i ld + p]. */
static inline void pack_rows(enum hb_dtype dtype, const void *data, int64_t from, ptrdiff_t ld, int64_t rows,
                             int64_t depth, float *tile)
{
    for (int64_t i = 0; i < rows; i++)
        hb_widen(dtype, data, from + i * ld, depth, tile + i * TILE_STRIDE);
}

/* Columns of a that lies [k,m], some tiles at once so that each row of memory is
 * read in long runs: tile number t takes columns bound[t] to bound[t + 1],
 *   tiles[t PACK_SLOT + p TILE_ROWS + i] = a[p ld + bound[t] + i].
 * Whole registers are copied as far as `readable` elements from a on allow; each
 * step overwrites what the one before it wrote too much. */
enum {
    PACK_WIDE = (TILE_ROWS + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH,
    PACK_SLOT = TILE_DEPTH * TILE_ROWS + 16,
};

static inline void pack_columns(enum hb_dtype dtype, const void *data, int64_t from, ptrdiff_t ld,
                                const int64_t *bound, int64_t count, int64_t depth, int64_t readable,
                                float *tiles)
{
    int64_t room = readable - bound[count - 1] - PACK_WIDE;
    int64_t fast = room < 0 ? 0 : room / ld + 1 < depth ? room / ld + 1 : depth;
    for (int64_t p = 0; p < fast; p++)
        for (int64_t t = 0; t < count; t++)
            hb_widen(dtype, data, from + p * ld + bound[t], PACK_WIDE, tiles + t * PACK_SLOT + p * TILE_ROWS);
    for (int64_t p = fast; p < depth; p++)
        for (int64_t t = 0; t < count; t++)
            hb_widen(dtype, data, from + p * ld + bound[t], bound[t + 1] - bound[t],
                     tiles + t * PACK_SLOT + p * TILE_ROWS);
}

#endif
