/* attention, backward, in two passes over the pairs: blocks of 64 queries add up
 * dQ over tiles of keys, blocks of 64 keys add up dK and dV over query heads and
 * tiles of queries. Each computes S and dP anew, 7 products instead of 5: the
 * price of an order of sums that no block has to wait for. Wide heads, and P: see
 * attention_forward.h. */
#ifndef HB_GPU_ATTENTION_BACKWARD_H
#define HB_GPU_ATTENTION_BACKWARD_H

#include "gpu/attention_tile.h"

struct backward_call {
    struct attention a;
    struct array dout, out, slots_out, dq, dk, dv;
    const float *lse, *slots_lse;
    float *delta, *slots_delta; /* [n, H]: D of rule 13; joint: the same */
    float *dslots_k, *dslots_v; /* [S, M, G, D]: of one segment each */
    int64_t n;
};

/* The factor of p: gated attention's share of slots, or of keys. */
static __device__ inline float share_of(const struct attention &a, int h, int part)
{
    if (a.combine != HB_GATED)
        return 1.0f;
    float w = hb_sigmoidf(load(a.gate, h));
    return part == SLOTS ? w : 1.0f - w;
}

/* From a score (before scale) and dp to p and ds. */
static __device__ inline void pair_of(float &score, float &dp, float lse, float delta, float share,
                                      float scale)
{
    float p = share * hb_expf(scale * score - shift(lse));
    score = p;
    dp = p * (dp - delta);
}

template <typename P, int WIDTH>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) dq_kernel(struct backward_call c)
{
    SHARED(float, staged, [STAGED]);
    SHARED(float, weights, [TILE][STRIDE]);
    struct queries q;
    if (!queries_of(c.a, &q))
        return;
    int column0 = (int)blockIdx.z * WIDTH;
    own_scores own;
    own_columns own_dq;
    struct rows dout = q.rows;
    dout.array = c.dout;
    float total[HEIGHT][WIDTH / 16];
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            total[i][d] = 0.0f; /* from +0: only signs of zeros differ, which + 0 ends */
    UNROLL_NOT
    for (int part = c.a.slots > 0 ? SLOTS : KEYS; part <= KEYS; part++) {
        struct rows k = keys_of(c.a, q.segment, q.g, part), v = k;
        v.array = part == SLOTS ? c.a.slots_v : c.a.v;
        struct mask mask = mask_of(c.a, part);
        float share = share_of(c.a, q.h, part), lse[HEIGHT], delta[HEIGHT];
        UNROLL
        for (int i = 0; i < HEIGHT; i++) {
            int position = smaller(q.first + own.row(i), q.end - 1);
            int64_t at = (q.row0 + position) * c.a.H + q.h;
            lse[i] = (part == SLOTS ? c.slots_lse : c.lse)[at];
            delta[i] = (part == SLOTS ? c.slots_delta : c.delta)[at];
        }
        for (int first = 0; first < k.count; first += TILE) {
            int last = smaller(first + TILE, k.count) - 1;
            if (!any_sees(mask, q.first, q.end - 1, first, last))
                continue;
            float p[HEIGHT][SCORES], ds[HEIGHT][SCORES], sum[HEIGHT][WIDTH / 16];
            P::row_products(p, staged, weights, q.rows, q.first, k, first, c.a.D);
            P::row_products(ds, staged, weights, dout, q.first, v, first, c.a.D);
            UNROLL
            for (int i = 0; i < HEIGHT; i++)
                UNROLL
                for (int j = 0; j < SCORES; j++)
                    pair_of(p[i][j], ds[i][j], lse[i], delta[i], share, c.a.scale);
            put_weights(weights, ds);
            bool whole = all_see(mask, q.first, q.end - 1, first, last);
            P::template weighted_rows<WIDTH>(sum, staged, weights, k, first, column0, c.a.D, whole,
                                 [&](int row, int step) { return sees(mask, q.first + row, first + step); });
            UNROLL
            for (int i = 0; i < HEIGHT; i++)
                UNROLL
                for (int d = 0; d < WIDTH / 16; d++)
                    total[i][d] = total[i][d] + sum[i][d];
        }
    }
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++) {
            int position = q.first + own.row(i), column = column0 + own_dq.column(d);
            if (position < q.end && column < c.a.D)
                store(c.dq, ((q.row0 + position) * c.a.H + q.h) * c.a.D + column,
                      c.a.scale * total[i][d] + 0.0f);
        }
}

/* The 64 keys, or slots, of a block. */
struct keys {
    struct rows k;
    int segment, first;
};

static __device__ inline bool keys_of_block(const struct backward_call &c, int part, struct keys *b)
{
    int tile = (int)blockIdx.x, s, local;
    if (part == SLOTS) {
        int tiles = (c.a.slots + TILE - 1) / TILE;
        s = tile / tiles;
        local = tile % tiles;
    } else {
        s = segment_of_tile<TILE>(c.a.k_begin, c.a.segments, tile);
        local = tile - c.a.k_begin[s] / TILE - s;
    }
    b->k = keys_of(c.a, s, (int)blockIdx.y, part);
    b->segment = s;
    b->first = local * TILE;
    return local >= 0 && b->first < b->k.count; /* the first segment may begin behind row 0 */
}

/* Adds what the queries from `first` of one head give the keys of the block. */
template <typename P, int WIDTH>
static __device__ inline void add_queries(float (&dk)[HEIGHT][WIDTH / 16], float (&dv)[HEIGHT][WIDTH / 16],
                                          float *staged, float (*weights)[STRIDE],
                                          const struct backward_call &c, const struct keys &b,
                                          const struct rows &v, const struct rows &q, const struct rows &dout,
                                          int first, int64_t row0, int h, int part, int column0)
{
    own_scores own;
    struct mask mask = mask_of(c.a, part);
    float p[HEIGHT][SCORES], ds[HEIGHT][SCORES], sum[HEIGHT][WIDTH / 16];
    P::row_products(p, staged, weights, b.k, b.first, q, first, c.a.D);
    P::row_products(ds, staged, weights, v, b.first, dout, first, c.a.D);
    float share = share_of(c.a, h, part);
    UNROLL
    for (int j = 0; j < SCORES; j++) {
        int position = smaller(first + own.x + 16 * j, q.count - 1);
        int64_t at = (row0 + position) * c.a.H + h;
        float lse = (part == SLOTS ? c.slots_lse : c.lse)[at];
        float delta = (part == SLOTS ? c.slots_delta : c.delta)[at];
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            pair_of(p[i][j], ds[i][j], lse, delta, share, c.a.scale);
    }
    int key_last = smaller(b.first + TILE, b.k.count) - 1, query_last = smaller(first + TILE, q.count) - 1;
    bool whole = all_see(mask, first, query_last, b.first, key_last);
    auto pair = [&](int row, int step) { return sees(mask, first + step, b.first + row); };
    put_weights(weights, p);
    P::template weighted_rows<WIDTH>(sum, staged, weights, dout, first, column0, c.a.D, whole, pair);
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            dv[i][d] = dv[i][d] + sum[i][d];
    __syncthreads(); /* the weights are read */
    put_weights(weights, ds);
    P::template weighted_rows<WIDTH>(sum, staged, weights, q, first, column0, c.a.D, whole, pair);
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            dk[i][d] = dk[i][d] + sum[i][d];
}

/* Of 128 columns a thread's totals do not all find registers: nvcc keeps up to 52 of the 64 in local memory
 * and touches them once a tile, 104 accesses to 8192 fmaf (tools/read-kernels). Half the columns at a time
 * would read the weights twice instead, 128 loads more; one block a multiprocessor would hide less. */
template <typename P, int WIDTH>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) dkdv_kernel(struct backward_call c, int part)
{
    SHARED(float, staged, [STAGED]);
    SHARED(float, weights, [TILE][STRIDE]);
    struct keys b;
    if (!keys_of_block(c, part, &b))
        return;
    int column0 = (int)blockIdx.z * WIDTH, g = (int)blockIdx.y, heads = c.a.H / c.a.G;
    struct mask mask = mask_of(c.a, part);
    struct rows v = b.k;
    v.array = part == SLOTS ? c.a.slots_v : c.a.v;
    float dk[HEIGHT][WIDTH / 16], dv[HEIGHT][WIDTH / 16];
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            dk[i][d] = dv[i][d] = 0.0f; /* from +0: see dq */
    int64_t row0 = c.a.q_begin[b.segment];
    int last_key = smaller(b.first + TILE, b.k.count) - 1;
    for (int h = g * heads; h < (g + 1) * heads; h++) {
        struct rows q = queries_of_head(c.a, b.segment, h), dout = q;
        dout.array = c.dout;
        for (int first = 0; first < q.count; first += TILE)
            if (any_sees(mask, first, smaller(first + TILE, q.count) - 1, b.first, last_key))
                add_queries<P, WIDTH>(dk, dv, staged, weights, c, b, v, q, dout, first, row0, h, part,
                                      column0);
    }
    own_columns own;
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++) {
            int position = b.first + own.row(i), column = column0 + own.column(d);
            if (position >= b.k.count || column >= c.a.D)
                continue;
            float x = c.a.scale * dk[i][d] + 0.0f, y = dv[i][d] + 0.0f;
            int64_t at = b.k.origin + (int64_t)position * b.k.stride + column;
            if (part == KEYS) {
                store(c.dk, at, x);
                store(c.dv, at, y);
            } else {
                at += (int64_t)b.segment * c.a.slots * b.k.stride;
                c.dslots_k[at] = x;
                c.dslots_v[at] = y;
            }
        }
}

template <typename P>
static inline hb_status launch_dq(struct hb_context *context, const struct backward_call &c)
{
    return launch("attention_backward, dq", c.a.D <= 64 ? dq_kernel<P, 64> : dq_kernel<P, 128>,
                  attention_grid(c.a, c.n, c.a.H), ATTENTION_THREADS, 0, gpu_stream_of(context), c);
}

template <typename P>
static inline hb_status launch_dkdv(struct hb_context *context, const struct backward_call &c, dim3 grid,
                                    int part)
{
    return launch(part == SLOTS ? "attention_backward, slots" : "attention_backward, dk and dv",
                  c.a.D <= 64 ? dkdv_kernel<P, 64> : dkdv_kernel<P, 128>, grid, ATTENTION_THREADS, 0,
                  gpu_stream_of(context), c, part);
}

#endif
