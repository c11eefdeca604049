/* Rows on the fast CPU backend: sums and maxima over a row with the bits of
 * `ref` (numerics.md rules 3 and 5), sums of columns, and threads.
 *
 * Element i of a row belongs to lane i % 32. Whole groups of 32 go through
 * vector registers; the rest works on a copy of the lanes in memory. */
#ifndef HB_CPU_ROW_H
#define HB_CPU_ROW_H

#include <math.h>
#include <stdint.h>

#include "cpu/vec.h"
#include "ops/backend.h"

enum { HB_LANES = 32, HB_LANE_VECS = HB_LANES / VEC_WIDTH };

/* The 32 lanes of a running sum. */
struct hb_lanes {
    vec v[HB_LANE_VECS];
};

static inline struct hb_lanes hb_lanes_zero(void)
{
    struct hb_lanes lanes;
    for (int j = 0; j < HB_LANE_VECS; j++)
        lanes.v[j] = vec_zero();
    return lanes;
}

static inline void hb_lanes_store(float lane[HB_LANES], struct hb_lanes lanes)
{
    for (int j = 0; j < HB_LANE_VECS; j++)
        vec_store(lane + j * VEC_WIDTH, lanes.v[j]);
}

static inline struct hb_lanes hb_lanes_load(const float lane[HB_LANES])
{
    struct hb_lanes lanes;
    for (int j = 0; j < HB_LANE_VECS; j++)
        lanes.v[j] = vec_load(lane + j * VEC_WIDTH);
    return lanes;
}

/* Lanes to one number: a tree 16, 8, 4, 2, 1. */
static inline float hb_lanes_sum(struct hb_lanes lanes)
{
    float lane[HB_LANES], s16[16], s8[8], s4[4];
    hb_lanes_store(lane, lanes);
    for (int l = 0; l < 16; l++)
        s16[l] = lane[l] + lane[l + 16];
    for (int l = 0; l < 8; l++)
        s8[l] = s16[l] + s16[l + 8];
    for (int l = 0; l < 4; l++)
        s4[l] = s8[l] + s8[l + 4];
    return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

/* Sum of a b over a row: a chain of fmaf from +0 per lane. */
static inline float hb_row_dot(const float *a, const float *b, int64_t n)
{
    struct hb_lanes lanes = hb_lanes_zero();
    int64_t i = 0;
    for (; i + HB_LANES <= n; i += HB_LANES)
        for (int j = 0; j < HB_LANE_VECS; j++)
            lanes.v[j] =
                vec_fma(vec_load(a + i + j * VEC_WIDTH), vec_load(b + i + j * VEC_WIDTH), lanes.v[j]);
    if (i < n) {
        float lane[HB_LANES];
        hb_lanes_store(lane, lanes);
        for (int l = 0; i + l < n; l++)
            lane[l] = fmaf(a[i + l], b[i + l], lane[l]);
        lanes = hb_lanes_load(lane);
    }
    return hb_lanes_sum(lanes);
}

/* Sum over a row: additions from +0 per lane. */
static inline float hb_row_sum(const float *x, int64_t n)
{
    struct hb_lanes lanes = hb_lanes_zero();
    int64_t i = 0;
    for (; i + HB_LANES <= n; i += HB_LANES)
        for (int j = 0; j < HB_LANE_VECS; j++)
            lanes.v[j] = vec_add(lanes.v[j], vec_load(x + i + j * VEC_WIDTH));
    if (i < n) {
        float lane[HB_LANES];
        hb_lanes_store(lane, lanes);
        for (int l = 0; i + l < n; l++)
            lane[l] = lane[l] + x[i + l];
        lanes = hb_lanes_load(lane);
    }
    return hb_lanes_sum(lanes);
}

/* Largest element; NaN if there is one; -infinity if the row is empty. Order
 * cannot be seen but in the sign of a zero and in the payload of a NaN. */
static inline float hb_row_max(const float *x, int64_t n)
{
    /* vec_max(x, m) passes over a NaN in x, so NaNs are gathered beside it: max(infinity, x) is
     * infinity or NaN, and a sum of those is infinity until a NaN comes. */
    vec infinity = vec_set1(INFINITY);
    struct hb_lanes largest, nan;
    for (int j = 0; j < HB_LANE_VECS; j++) {
        largest.v[j] = vec_set1(-INFINITY);
        nan.v[j] = infinity;
    }
    int64_t i = 0;
    for (; i + HB_LANES <= n; i += HB_LANES)
        for (int j = 0; j < HB_LANE_VECS; j++) {
            vec v = vec_load(x + i + j * VEC_WIDTH);
            largest.v[j] = vec_max(v, largest.v[j]);
            nan.v[j] = vec_add(nan.v[j], vec_max(infinity, v));
        }
    float lane[HB_LANES], s16[16], s8[8], m = -INFINITY, nans = hb_lanes_sum(nan);
    hb_lanes_store(lane, largest);
    for (int l = 0; l < 16; l++)
        s16[l] = lane[l] > lane[l + 16] ? lane[l] : lane[l + 16];
    for (int l = 0; l < 8; l++)
        s8[l] = s16[l] > s16[l + 8] ? s16[l] : s16[l + 8];
    for (int l = 0; l < 8; l++)
        m = s8[l] > m ? s8[l] : m;
    for (; i < n; i++) {
        m = x[i] > m ? x[i] : m;
        nans = x[i] != x[i] ? x[i] : nans;
    }
    return nans != nans ? nans : m;
}

/* Sums over the rows of a matrix (rule 4): the caller sums each chunk of 64 rows
 * into its row of `sums` [chunks, stride], then finishes the columns. Both
 * parts go by blocks of columns that different threads may have. */
enum { HB_CHUNK_ROWS = 64, HB_FOLD_BLOCK = 64, HB_COLUMNS = 4096 };

static inline int64_t hb_at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

/* Columns that one thread sums at once. Whole rows stream best (up to HB_COLUMNS sums
 * stay in the first-level cache); too few chunks for the threads are cut across. */
static inline int64_t hb_column_block(int64_t columns, int64_t chunks, int threads)
{
    int64_t share = ((columns - 1) / threads / 64 + 1) * 64;
    return chunks < 4 * (int64_t)threads && share < HB_COLUMNS ? share : HB_COLUMNS;
}

/* `width` columns: chunk sums by the fold tree, then STORE or ADD. Uses up `sums`. */
static inline void hb_columns_finish(float *sums, int64_t chunks, int64_t stride, int64_t width,
                                     enum hb_product_epilogue epilogue, float *out)
{
    /* Left children of the tree are full: nodes at distance 1, 2, 4, ... are siblings, and one
     * without a right neighbour waits for a larger distance. */
    for (int64_t s = 1; s < chunks; s *= 2)
        for (int64_t c = 0; c + s < chunks; c += 2 * s) {
            float *left = sums + c * stride;
            const float *right = sums + (c + s) * stride;
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                left[i] = left[i] + right[i];
        }
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        out[i] = epilogue == HB_ADD ? out[i] + sums[i] : sums[i];
}

/* How many threads to use for work that touches `elements` numbers: below some
 * ten thousand, waking them costs more than they save. */
static inline int hb_row_threads(const struct hb_context *context, int64_t elements)
{
    return elements < 32768 ? 1 : context->threads;
}

#endif
