/* Column sums (numerics.md rule 4) in two launches: chunks of 64 rows in the
 * order of their rows, then the chunks of a column by the fold tree. */
#ifndef HB_GPU_COLUMNS_H
#define HB_GPU_COLUMNS_H

#include "gpu/gpu.h"
#include "gpu/piece.h"
#include "gpu/tree.h"

enum { CHUNK_ROWS = 64, COLUMNS = 128 /* of a block, one thread each */, ROWS_AT_ONCE = 8 };

static inline int64_t chunks_of(int64_t rows)
{
    return (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
}

/* Of the chunk sums, [chunks, D] fp32. */
static inline size_t chunk_bytes(int64_t rows, int64_t D)
{
    return (size_t)(chunks_of(rows) * D) * sizeof(float);
}

/* Blocks (chunk, columns): chunks are in x, where a grid may be long. */
static inline dim3 chunk_grid(int64_t rows, int64_t D)
{
    return dim3((unsigned)chunks_of(rows), (unsigned)((D + COLUMNS - 1) / COLUMNS));
}

/* x[e] = row first + e of column i, +0 from row `end` on: enough on its way to keep memory busy. */
static __device__ inline void read_rows(float (&x)[ROWS_AT_ONCE], const struct array &from, int64_t first,
                                        int64_t end, int64_t D, int64_t i)
{
    int rows = (int)smaller(end - first, ROWS_AT_ONCE);
    read_several(x, from, [&](int e) { return e < rows ? (first + e) * D + i : (int64_t)-1; });
}

/* sums.chunk(begin, end, i): the sum of rows [begin, end) of column i. */
template <typename S>
static __device__ inline void sum_chunks(const S &sums, int64_t rows, int64_t D, float *chunks)
{
    int64_t i = (int64_t)blockIdx.y * COLUMNS + threadIdx.x, begin = (int64_t)blockIdx.x * CHUNK_ROWS;
    int64_t end = smaller(begin + CHUNK_ROWS, rows);
    if (i < D)
        chunks[blockIdx.x * D + i] = sums.chunk(begin, end, i);
}

static __global__ void add_chunks(const float *chunks, int64_t count, int64_t D, struct array out, bool add)
{
    int64_t i = first_element();
    if (i >= D)
        return;
    tree_sum<float> tree;
    for (int64_t c = 0; c < count; c++)
        tree.add(chunks[c * D + i]);
    float sum = tree.root();
    store(out, i, add ? load(out, i) + sum : sum);
}

#endif
