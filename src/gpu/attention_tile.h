/* The two products of a tile, for all kernels of attention: rows with rows
 * (scores, dP) and weights with rows (O, dQ, dK, dV), operands in shared memory. A block
 * of 256 threads works on 64 rows; thread (y, x) of 16 x 16 has rows 4 y .. 4 y + 3.
 * Of 64 scores of a row it has columns x, x + 16, x + 32, x + 48: so what a row
 * needs from other threads (its maximum, its sum) comes from 16 lanes, every other
 * one of a warp: see the layout of product.cu. */
#ifndef HB_GPU_ATTENTION_TILE_H
#define HB_GPU_ATTENTION_TILE_H

#include "gpu/attention_rows.h"
#include "gpu/piece.h"

enum {
    ATTENTION_THREADS = 256,
    HEIGHT = 4,        /* rows of a thread */
    SCORES = 4,        /* columns of a thread in a tile of scores */
    PIECE = 32,        /* widths, or rows, that are in shared memory at a time */
    CHAIN = 256,       /* rule 1 */
    STRIDE = TILE + 4, /* of shared memory; keeps quads aligned and banks apart */
    STAGED = 2 * PIECE * STRIDE,
};

/* x[e] = element `column` of position first + e APART; +0 where that does not exist. */
template <int APART, int N>
static __device__ inline void read_column(float (&x)[N], const struct rows &r, int first, int column, int D)
{
    int row = row_of(r, first), position = first;
    int64_t origin = r.origin + column;
    read_several(x, r.array, [&](int) {
        int64_t at = position < r.count && column < D ? origin + (int64_t)row * r.stride : (int64_t)-1;
        position += APART;
        row += APART;
        while (row >= r.ring)
            row -= r.ring - r.sinks;
        return at;
    });
}

/* This thread's elements: of scores, whose columns lie spread in shared memory
 * (place), and of a tile of 64 rows x WIDTH columns. */
struct own_scores {
    int y, x;

    __device__ inline own_scores()
    {
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        y = (warp * 2 + lane % 2) * HEIGHT;
        x = lane / 2;
    }

    __device__ inline int row(int i) const
    {
        return y + i;
    }

    /* Where its column j lies; it is column x + 16 j of the tile. */
    __device__ inline int column(int j) const
    {
        return x * SCORES + j;
    }
};

struct own_columns : own_scores {
    __device__ inline int column(int j) const
    {
        return j / 4 * TILE + x * 4 + j % 4;
    }
};

/* 64 positions from `first`, widths d0 .. d0 + 31, to[width][position]; SPREAD as
 * the columns of scores. What does not exist is +0, and in no sum that is stored. A warp
 * has 8 widths of 4 lines that it puts down beside each other: so it meets all 32 banks. */
template <bool SPREAD>
static __device__ inline void stage_widths(float (*to)[STRIDE], const struct rows &r, int first, int d0,
                                           int D)
{
    enum { EACH = TILE * PIECE / ATTENTION_THREADS, APART = SPREAD ? 2 : ATTENTION_THREADS / PIECE };
    int t = (int)threadIdx.x, d = t / 32 % 4 * 8 + t % 8, part = t / 8 % 4, half = t / 128;
    int row = SPREAD ? part * 16 + half : half * 4 + part;
    float x[EACH];
    read_column<APART>(x, r, first + row, d0 + d, D);
    UNROLL
    for (int e = 0; e < EACH; e++) {
        int line = row + e * APART;
        to[d][SPREAD ? line % 16 * SCORES + line / 16 : line] = x[e];
    }
}

/* 32 positions from `first`, WIDTH columns from `column0`, to[position][column]. */
template <int WIDTH>
static __device__ inline void stage_rows(float (*to)[WIDTH + 4], const struct rows &r, int first, int column0,
                                         int D)
{
    enum { EACH = PIECE * WIDTH / ATTENTION_THREADS, APART = ATTENTION_THREADS / WIDTH };
    int d = (int)threadIdx.x % WIDTH, row = (int)threadIdx.x / WIDTH;
    float x[EACH];
    read_column<APART>(x, r, first + row, column0 + d, D);
    UNROLL
    for (int e = 0; e < EACH; e++)
        to[row + e * APART][d] = x[e];
}

/* Puts a tile of scores down as the left operand of weighted_rows: step by step. */
static __device__ inline void put_weights(float (*weights)[STRIDE], const float (&p)[HEIGHT][SCORES])
{
    own_scores own;
    UNROLL
    for (int j = 0; j < SCORES; j++)
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            weights[own.x + 16 * j][own.row(i)] = p[i][j];
}

/* The products in canonical order. */
struct exact {
    /* Rule 1: products of 64 rows of `a` with 64 rows of `b`. Begins and ends with
     * `staged` in use. */
    static __device__ inline void row_products(float (&out)[HEIGHT][SCORES], float *staged, float (*)[STRIDE],
                                               const struct rows &a, int a_first, const struct rows &b,
                                               int b_first, int D)
    {
        float(*as)[STRIDE] = reinterpret_cast<float(*)[STRIDE]>(staged), (*bs)[STRIDE] = as + PIECE;
        own_scores own;
        float chain[HEIGHT][SCORES];
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            UNROLL
            for (int j = 0; j < SCORES; j++) {
                chain[i][j] = 0.0f;
                out[i][j] = -0.0f; /* -0 + x is x: the first chain starts the sum */
            }
        for (int d0 = 0; d0 < D; d0 += PIECE) {
            __syncthreads();
            stage_widths<false>(as, a, a_first, d0, D);
            stage_widths<true>(bs, b, b_first, d0, D);
            __syncthreads();
            if (d0 + PIECE <= D) {
                UNROLL
                for (int d = 0; d < PIECE; d++)
                    multiply_step(chain, as[d], bs[d], own);
            } else {
                for (int d = 0; d < D - d0; d++)
                    multiply_step(chain, as[d], bs[d], own);
            }
            if ((d0 + PIECE) % CHAIN == 0 || d0 + PIECE >= D)
                UNROLL
                for (int i = 0; i < HEIGHT; i++)
                    UNROLL
                    for (int j = 0; j < SCORES; j++) {
                        out[i][j] = out[i][j] + chain[i][j];
                        chain[i][j] = 0.0f;
                    }
        }
    }

    /* Chains from +0 over the rows of `b` from `first` (at most 64): weights[step][row]
     * times columns column0 .. of b. Pairs for which !pair(row, step) are in no chain;
     * `whole`: there are none. */
    template <int WIDTH, typename P>
    static __device__ inline void weighted_rows(float (&out)[HEIGHT][WIDTH / 16], float *staged,
                                                const float (*weights)[STRIDE], const struct rows &b,
                                                int first, int column0, int D, bool whole, P pair)
    {
        float(*bs)[WIDTH + 4] = reinterpret_cast<float(*)[WIDTH + 4]>(staged);
        own_columns own;
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            UNROLL
            for (int j = 0; j < WIDTH / 16; j++)
                out[i][j] = 0.0f;
        int steps = smaller(TILE, b.count - first);
        for (int s0 = 0; s0 < steps; s0 += PIECE) {
            __syncthreads();
            stage_rows<WIDTH>(bs, b, first + s0, column0, D);
            __syncthreads();
            int end = smaller(PIECE, steps - s0);
            if (whole && end == PIECE) {
                UNROLL
                for (int s = 0; s < PIECE; s++)
                    multiply_step(out, weights[s0 + s], bs[s], own);
            } else {
                for (int s = 0; s < end; s++)
                    UNROLL
                    for (int i = 0; i < HEIGHT; i++)
                        if (whole || pair(own.row(i), s0 + s)) {
                            float weight = weights[s0 + s][own.row(i)];
                            UNROLL
                            for (int j = 0; j < WIDTH / 16; j++)
                                out[i][j] = fmaf(weight, bs[s][own.column(j)], out[i][j]);
                        }
            }
        }
    }
};

/* -inf - (-inf) would be NaN: a row that has seen nothing but -inf keeps p = 0. */
static __device__ inline float shift(float maximum)
{
    return maximum == -INFINITY ? 0.0f : maximum;
}

/* Each of a row's 16 lanes gets the largest; rule 5. */
static __device__ inline float row_larger(float x)
{
    for (int s = 8; s > 0; s /= 2)
        x = larger(__shfl_xor_sync(WARP, x, 2 * s), x);
    return x;
}

/* Rule 3 of 64 numbers: this thread's are of its lanes x, x + 16, x, x + 16. */
static __device__ inline float row_sum(const float (&p)[SCORES])
{
    float lane = (p[0] + p[2]) + (p[1] + p[3]);
    for (int s = 8; s > 0; s /= 2)
        lane = lane + __shfl_xor_sync(WARP, lane, 2 * s);
    return lane;
}

#endif
