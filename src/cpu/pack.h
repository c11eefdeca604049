/* Operands of a product, copied into the order in which cpu/tile.h reads them. */
#ifndef HB_CPU_PACK_H
#define HB_CPU_PACK_H

#include <string.h>

#include "cpu/tile.h"

/* A square of VEC_WIDTH rows, transposed: to[p TILE_COLUMNS + row] = from[row ld + p].
 * The registers take 4 columns of all rows, row 4 l + r in part l of register r,
 * so that one transposition of 4 x 4 inside the parts is all there is to do. */
#if VEC_WIDTH == 16

static inline __m512 pack_quarters(const float *from, ptrdiff_t ld)
{
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(from));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(from + 4 * ld), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(from + 8 * ld), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(from + 12 * ld), 3);
}

static inline void pack_square(const float *from, ptrdiff_t ld, float *to)
{
    for (int q = 0; q < 16; q += 4) {
        __m512 x0 = pack_quarters(from + q, ld), x1 = pack_quarters(from + ld + q, ld);
        __m512 x2 = pack_quarters(from + 2 * ld + q, ld), x3 = pack_quarters(from + 3 * ld + q, ld);
        __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(x0, x1));
        __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(x0, x1));
        __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(x2, x3));
        __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(x2, x3));
        float *t = to + q * TILE_COLUMNS;
        vec_store(t, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
        vec_store(t + TILE_COLUMNS, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
        vec_store(t + 2 * TILE_COLUMNS, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
        vec_store(t + 3 * TILE_COLUMNS, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
    }
}

#elif VEC_WIDTH == 8

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

/* Rows of a that lies [m,k]: tile[i TILE_STRIDE + p] = a[i ld + p]. */
static inline void pack_rows(const float *a, ptrdiff_t ld, int64_t rows, int64_t depth, float *tile)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(tile + i * TILE_STRIDE, a + i * ld, (size_t)depth * sizeof *a);
}

#endif
