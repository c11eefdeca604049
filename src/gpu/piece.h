/* Pieces of matrices on their way from global memory through registers into
 * shared memory, for the kernels that multiply. A kernel asks for the next piece
 * (fetch) before it computes with the present one and puts it down (stash)
 * afterwards, so that it does not wait for memory. Registers keep the stored
 * bits; they are widened to fp32 when they are put down.
 *
 * A piece is LINES x STEPS: lines are rows or columns of the result, steps are
 * those of the sum. In shared memory it lies step by step: at[step][line], so
 * that a thread reads its neighbouring lines of one step at once. In global
 * memory either one may be contiguous (STEPS_CONTIGUOUS), and threads follow it. */
#ifndef HB_GPU_PIECE_H
#define HB_GPU_PIECE_H

#include "gpu/storage.h"

/* Element (line, step) lies at origin + line * line_stride + step * step_stride. */
struct view {
    struct array array;
    int64_t origin, line_stride, step_stride;
};

template <int LINES, int STEPS, int THREADS, bool STEPS_CONTIGUOUS> struct piece {
    enum {
        EACH = LINES * STEPS / THREADS, /* elements of a thread */
        APART = THREADS / (STEPS_CONTIGUOUS ? STEPS : LINES), /* lines (steps) between two of them */
        STRIDE = LINES + 4,
    };
    static_assert(LINES * STEPS % THREADS == 0 && THREADS % (STEPS_CONTIGUOUS ? STEPS : LINES) == 0,
                  "threads divide a piece into equal shares");
    struct array from;
    int64_t at, hop,
        advance; /* element 0 of the next piece; from one element to the next; to the piece after it */
    int line, step;            /* of element 0 in the piece */
    int lines_left, steps_left; /* from there to the end of the matrix */
    uint32_t bits[EACH];

    /* Starts at `first_line` and step 0 of a matrix of lines x steps. */
    __device__ inline piece(const struct view &v, int64_t first_line, int64_t lines, int64_t steps)
    {
        int t = (int)threadIdx.x;
        line = STEPS_CONTIGUOUS ? t / STEPS : t % LINES;
        step = STEPS_CONTIGUOUS ? t % STEPS : t / LINES;
        from = v.array;
        at = v.origin + (first_line + line) * v.line_stride + step * v.step_stride;
        hop = APART * (STEPS_CONTIGUOUS ? v.line_stride : v.step_stride);
        advance = STEPS * v.step_stride;
        lines_left = (int)(lines - first_line) - line;
        steps_left = (int)steps - step;
    }

    __device__ inline bool inside(int e) const
    {
        return STEPS_CONTIGUOUS ? e * APART < lines_left && 0 < steps_left
                                : 0 < lines_left && e * APART < steps_left;
    }

    /* What lies beyond `lines` or `steps` is +0. It is never part of a sum that is
     * stored: lines beyond are not stored, steps beyond not taken. */
    __device__ inline void fetch()
    {
        if (from.dtype == HB_F32) {
            UNROLL
            for (int e = 0; e < EACH; e++)
                bits[e] = inside(e) ? hb_bits_of_f32(static_cast<const float *>(from.data)[at + e * hop]) : 0;
        } else {
            UNROLL
            for (int e = 0; e < EACH; e++)
                bits[e] = inside(e) ? static_cast<const uint16_t *>(from.data)[at + e * hop] : 0;
        }
        at += advance;
        steps_left -= STEPS;
    }

    /* Puts the piece fetched last down, step by step. */
    __device__ inline void stash(float (*to)[STRIDE]) const
    {
        float *first = &to[step][line];
        const int next = STEPS_CONTIGUOUS ? APART : APART * STRIDE;
        if (from.dtype == HB_F32) {
            UNROLL
            for (int e = 0; e < EACH; e++)
                first[e * next] = hb_f32_of_bits(bits[e]);
        } else if (from.dtype == HB_BF16) {
            UNROLL
            for (int e = 0; e < EACH; e++)
                first[e * next] = hb_f32_of_bf16((uint16_t)bits[e]);
        } else {
            UNROLL
            for (int e = 0; e < EACH; e++)
                first[e * next] = hb_f32_of_f16((uint16_t)bits[e]);
        }
    }
};

/* x[e] = element at(e), +0 if that is negative. All are asked for before the first is needed. */
template <int N, typename A>
static __device__ inline void read_several(float (&x)[N], const struct array &from, A at)
{
    if (from.dtype == HB_F32) {
        UNROLL
        for (int e = 0; e < N; e++) {
            int64_t i = at(e);
            x[e] = i < 0 ? 0.0f : static_cast<const float *>(from.data)[i];
        }
        return;
    }
    uint16_t bits[N];
    UNROLL
    for (int e = 0; e < N; e++) {
        int64_t i = at(e);
        bits[e] = i < 0 ? 0 : static_cast<const uint16_t *>(from.data)[i];
    }
    UNROLL
    for (int e = 0; e < N; e++)
        x[e] = from.dtype == HB_BF16 ? hb_f32_of_bf16(bits[e]) : hb_f32_of_f16(bits[e]);
}

/* One step of a sum for all elements of a thread, whose rows and columns `own`
 * tells; neighbouring ones are read together. */
template <typename L, int HEIGHT, int WIDTH>
static __device__ inline void multiply_step(float (&acc)[HEIGHT][WIDTH], const float *a, const float *b,
                                            const L &own)
{
    float x[HEIGHT], y[WIDTH];
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        x[i] = a[own.row(i)];
    UNROLL
    for (int j = 0; j < WIDTH; j++)
        y[j] = b[own.column(j)];
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int j = 0; j < WIDTH; j++)
            acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
}

/* The largest s with start(s) <= tile, where the tiles of segment s (rows
 * [begin[s], begin[s + 1]), ROWS a tile) are numbered from
 * start(s) = begin[s] / ROWS + s: room enough for each, in ascending order, and
 * found without adding up what lies before. */
template <int ROWS> static __device__ inline int segment_of_tile(const int32_t *begin, int segments, int tile)
{
    int low = 0, high = segments; /* start(low) <= tile < start(high) */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (begin[middle] / ROWS + middle <= tile)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Tiles that `rows` rows in `segments` segments may need. */
static inline int64_t tiles_of_segments(int64_t rows, int64_t segments, int64_t tile)
{
    return rows / tile + segments;
}

#endif
