/* attention, forward: a block of threads has 64 queries of a head and WIDTH
 * columns of their output, and passes over the tiles of keys that any of its
 * queries sees. The recurrence of rule 12 is kept in registers. Heads wider than
 * WIDTH are computed by several blocks, each with its own columns: the scores are
 * computed again, which costs less than registers for all. P has the two products
 * of a tile: attention_tile.h, or attention_tensor.h under numerics: fast. */
#ifndef HB_GPU_ATTENTION_FORWARD_H
#define HB_GPU_ATTENTION_FORWARD_H

#include "gpu/attention_tile.h"

struct forward_call {
    struct attention a;
    struct array out, rest_out, slots_out; /* joint: rest_out is out */
    float *lse, *slots_lse;
};

/* What the recurrence carries from tile to tile, for the thread's rows. */
template <int WIDTH> struct running {
    float m[HEIGHT], l[HEIGHT], O[HEIGHT][WIDTH / 16];

    __device__ inline void begin()
    {
        UNROLL
        for (int i = 0; i < HEIGHT; i++) {
            m[i] = -INFINITY;
            l[i] = 0.0f;
            UNROLL
            for (int d = 0; d < WIDTH / 16; d++)
                O[i][d] = 0.0f;
        }
    }
};

/* One tile of keys: from scores to p, in place; m and l follow, a[i] is what O is rescaled by. */
template <int WIDTH>
static __device__ inline void softmax_tile(struct running<WIDTH> &r, float (&p)[HEIGHT][SCORES],
                                           float (&a)[HEIGHT], const struct mask &mask,
                                           const struct queries &q, int first, int keys, float scale)
{
    own_scores own;
    UNROLL
    for (int i = 0; i < HEIGHT; i++) {
        float highest = r.m[i];
        bool seen[SCORES];
        UNROLL
        for (int j = 0; j < SCORES; j++) {
            int key = first + own.x + 16 * j;
            seen[j] = key < keys && sees(mask, q.first + own.row(i), key);
            p[i][j] = scale * p[i][j];
            if (seen[j])
                highest = larger(p[i][j], highest);
        }
        highest = row_larger(highest);
        a[i] = hb_expf(r.m[i] - shift(highest));
        UNROLL
        for (int j = 0; j < SCORES; j++)
            p[i][j] = seen[j] ? hb_expf(p[i][j] - shift(highest)) : 0.0f;
        r.m[i] = highest;
        r.l[i] = fmaf(a[i], r.l[i], row_sum(p[i]));
    }
}

/* All tiles of keys (or slots) that a query of the block sees. */
template <typename P, int WIDTH>
static __device__ inline void pass_over(struct running<WIDTH> &r, float *staged, float (*weights)[STRIDE],
                                        const struct attention &c, const struct queries &q,
                                        const struct rows &k, const struct rows &v, const struct mask &mask,
                                        int column0)
{
    own_columns own;
    for (int first = 0; first < k.count; first += TILE) {
        int last = smaller(first + TILE, k.count) - 1;
        if (!any_sees(mask, q.first, q.end - 1, first, last))
            continue;
        float p[HEIGHT][SCORES], a[HEIGHT], o[HEIGHT][WIDTH / 16];
        P::row_products(p, staged, weights, q.rows, q.first, k, first, c.D);
        softmax_tile(r, p, a, mask, q, first, k.count, c.scale);
        put_weights(weights, p);
        bool whole = all_see(mask, q.first, q.end - 1, first, last);
        P::template weighted_rows<WIDTH>(o, staged, weights, v, first, column0, c.D, whole,
                             [&](int row, int step) { return sees(mask, q.first + row, first + step); });
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            UNROLL
            for (int d = 0; d < WIDTH / 16; d++)
                r.O[i][d] = fmaf(a[i], r.O[i][d], o[i][d]);
    }
}

/* The end of a recurrence. */
template <int WIDTH>
static __device__ inline void finish(const struct running<WIDTH> &r, const struct forward_call &c,
                                     const struct queries &q, const struct array &out, float *lse,
                                     int column0)
{
    own_columns own;
    UNROLL
    for (int i = 0; i < HEIGHT; i++) {
        int position = q.first + own.row(i);
        if (position >= q.end)
            continue;
        int64_t row = (q.row0 + position) * c.a.H + q.h;
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++) {
            int column = column0 + own.column(d);
            if (column < c.a.D)
                store(out, row * c.a.D + column, r.l[i] == 0.0f ? 0.0f : r.O[i][d] / r.l[i] + 0.0f);
        }
        if (column0 == 0 && own.x == 0)
            lse[row] = r.l[i] == 0.0f ? -INFINITY : r.m[i] + hb_logf(r.l[i]);
    }
}

/* sum, gated: of what this thread has stored. */
template <int WIDTH>
static __device__ inline void combine(const struct forward_call &c, const struct queries &q, int column0)
{
    own_columns own;
    float w = c.a.combine == HB_GATED ? hb_sigmoidf(load(c.a.gate, q.h)) : 0.0f;
    for (int i = 0; i < HEIGHT; i++) {
        int position = q.first + own.row(i);
        if (position >= q.end)
            continue;
        for (int d = 0; d < WIDTH / 16; d++) {
            int column = column0 + own.column(d);
            if (column >= c.a.D)
                continue;
            int64_t at = ((q.row0 + position) * c.a.H + q.h) * c.a.D + column;
            float slots = load(c.slots_out, at), rest = load(c.rest_out, at);
            store(c.out, at, c.a.combine == HB_GATED ? fmaf(w, slots, (1.0f - w) * rest) : slots + rest);
        }
    }
}

template <typename P, int WIDTH>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_kernel(struct forward_call c)
{
    SHARED(float, staged, [STAGED]);
    SHARED(float, weights, [TILE][STRIDE]);
    struct queries q;
    if (!queries_of(c.a, &q))
        return;
    int column0 = (int)blockIdx.z * WIDTH;
    struct running<WIDTH> r;
    r.begin();
    UNROLL_NOT
    for (int part = c.a.slots > 0 ? SLOTS : KEYS; part <= KEYS; part++) {
        struct rows k = keys_of(c.a, q.segment, q.g, part), v = k;
        v.array = part == SLOTS ? c.a.slots_v : c.a.v;
        pass_over<P>(r, staged, weights, c.a, q, k, v, mask_of(c.a, part), column0);
        if (part == SLOTS && c.a.combine == HB_JOINT)
            continue;
        finish(r, c, q, part == SLOTS ? c.slots_out : c.rest_out, part == SLOTS ? c.slots_lse : c.lse,
               column0);
        r.begin();
    }
    if (c.a.combine != HB_JOINT)
        combine<WIDTH>(c, q, column0);
}

template <typename P>
static inline hb_status launch_forward(struct hb_context *context, const struct forward_call &c, int64_t rows)
{
    return launch("attention_forward", c.a.D <= 64 ? attention_kernel<P, 64> : attention_kernel<P, 128>,
                  attention_grid(c.a, rows, c.a.H), ATTENTION_THREADS, 0, gpu_stream_of(context), c);
}

#endif
