/* attention, backward, in two passes over the pairs: blocks of 64 queries add up
 * dQ over tiles of keys, blocks of 64 keys add up dK and dV over query heads and
 * tiles of queries. Each computes S and dP anew, 7 products instead of 5: the
 * price of an order of sums that no block has to wait for. Wide heads: see
 * attention.cu. */
#include "gpu/attention_tile.h"
#include "gpu/tree.h"

struct backward_call {
    struct attention a;
    struct array dout, out, slots_out, dq, dk, dv;
    const float *lse, *slots_lse;
    float *delta, *slots_delta; /* [n, H]: D of rule 13; joint: the same */
    float *dslots_k, *dslots_v; /* [S, M, G, D]: of one segment each */
    int64_t n;
};

/* D = dot(dO, O): a warp has a row and head. */
static __global__ void delta_kernel(struct array dout, struct array out, float *delta, int64_t rows, int D)
{
    int lane = (int)threadIdx.x % 32;
    for (int64_t row = first_element() / 32; row < rows; row += element_stride() / 32) {
        float sum = 0.0f;
        for (int d = lane; d < D; d += 32)
            sum = fmaf(load(dout, row * D + d), load(out, row * D + d), sum);
        sum = lanes_sum(sum);
        if (lane == 0)
            delta[row] = sum;
    }
}

/* The factor of p: gated attention's share of slots, or of keys. */
static __device__ inline float share_of(const struct attention &a, int h, int part)
{
    if (a.combine != HB_GATED)
        return 1.0f;
    float w = hb_sigmoidf(load(a.gate, h));
    return part == SLOTS ? w : 1.0f - w;
}

/* From a score (before scale) and dp to p and ds. */
static __device__ inline void pair_of(float &score, float &dp, float lse, float delta, float share, float scale)
{
    float p = share * hb_expf(scale * score - shift(lse));
    score = p;
    dp = p * (dp - delta);
}

template <int WIDTH> static __global__ void __launch_bounds__(ATTENTION_THREADS, 2) dq_kernel(struct backward_call c)
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
            row_products(p, staged, q.rows, q.first, k, first, c.a.D);
            row_products(ds, staged, dout, q.first, v, first, c.a.D);
            UNROLL
            for (int i = 0; i < HEIGHT; i++)
                UNROLL
                for (int j = 0; j < SCORES; j++)
                    pair_of(p[i][j], ds[i][j], lse[i], delta[i], share, c.a.scale);
            put_weights(weights, ds);
            bool whole = all_see(mask, q.first, q.end - 1, first, last);
            weighted_rows<WIDTH>(sum, staged, weights, k, first, column0, c.a.D, whole,
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
                store(c.dq, ((q.row0 + position) * c.a.H + q.h) * c.a.D + column, c.a.scale * total[i][d] + 0.0f);
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
template <int WIDTH>
static __device__ inline void add_queries(float (&dk)[HEIGHT][WIDTH / 16], float (&dv)[HEIGHT][WIDTH / 16],
                                          float *staged, float (*weights)[STRIDE], const struct backward_call &c,
                                          const struct keys &b, const struct rows &v, const struct rows &q,
                                          const struct rows &dout, int first, int64_t row0, int h, int part,
                                          int column0)
{
    own_scores own;
    struct mask mask = mask_of(c.a, part);
    float p[HEIGHT][SCORES], ds[HEIGHT][SCORES], sum[HEIGHT][WIDTH / 16];
    row_products(p, staged, b.k, b.first, q, first, c.a.D);
    row_products(ds, staged, v, b.first, dout, first, c.a.D);
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
    weighted_rows<WIDTH>(sum, staged, weights, dout, first, column0, c.a.D, whole, pair);
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            dv[i][d] = dv[i][d] + sum[i][d];
    __syncthreads(); /* the weights are read */
    put_weights(weights, ds);
    weighted_rows<WIDTH>(sum, staged, weights, q, first, column0, c.a.D, whole, pair);
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int d = 0; d < WIDTH / 16; d++)
            dk[i][d] = dk[i][d] + sum[i][d];
}

template <int WIDTH>
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
                add_queries<WIDTH>(dk, dv, staged, weights, c, b, v, q, dout, first, row0, h, part, column0);
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

/* Rows of dk and dv that no segment owns: before the first and behind the last. */
static __global__ void clear_rest(struct array dk, struct array dv, const int32_t *k_begin, int segments,
                                  int64_t row, int64_t elements)
{
    int64_t owned = k_begin[0] * row, end = k_begin[segments] * row;
    for (int64_t i = first_element(); i < owned + elements - end; i += element_stride()) {
        int64_t at = i < owned ? i : end + i - owned;
        store(dk, at, 0.0f);
        store(dv, at, 0.0f);
    }
}

/* What one segment gives dgate[h]: a warp has both; a lane, every 32nd tile of queries. */
static __global__ void dgate_kernel(struct attention a, const float *delta, const float *slots_delta, float *leaf)
{
    int segment = (int)blockIdx.x, h = (int)blockIdx.y, lane = (int)threadIdx.x;
    int begin = a.q_begin[segment], count = a.q_begin[segment + 1] - begin;
    float total = 0.0f;
    for (int strip = 0; strip < count; strip += 32 * TILE) {
        float sum = 0.0f;
        int first = strip + lane * TILE;
        for (int i = first; i < count && i < first + TILE; i++) {
            int64_t at = (int64_t)(begin + i) * a.H + h;
            sum = sum + (slots_delta[at] - delta[at]);
        }
        for (int l = 0; l < 32; l++) {
            float tile = __shfl_sync(WARP, sum, l);
            if (strip + l * TILE < count)
                total = total + tile;
        }
    }
    float w = hb_sigmoidf(load(a.gate, h));
    if (lane == 0)
        leaf[(int64_t)segment * a.H + h] = w * (1.0f - w) * total + 0.0f;
}

/* Rule 4 over the segments: out[i] of leaf[segments][columns]. */
static __global__ void add_segments(const float *leaf, float *out, int segments, int64_t columns)
{
    for (int64_t i = first_element(); i < columns; i += element_stride()) {
        tree_sum<float> tree;
        for (int first = 0; first < segments; first += 64) {
            float sum = leaf[first * columns + i];
            for (int s = first + 1; s < segments && s < first + 64; s++)
                sum = sum + leaf[s * columns + i];
            tree.add(sum);
        }
        out[i] = tree.root();
    }
}

/* D of rule 13 for every query and head. */
static hb_status launch_delta(struct hb_context *context, const struct backward_call &c, const struct array &out, float *delta)
{
    int64_t rows = c.n * c.a.H;
    return launch("attention_backward, delta", delta_kernel, blocks_for(32 * rows, 256), 256, 0, gpu_stream_of(context),
                  c.dout, out, delta, rows, c.a.D);
}

static hb_status launch_slots(struct hb_context *context, const struct backward_call &c,
                              const struct hb_attention_backward_args *args)
{
    int64_t tiles = (c.a.slots + TILE - 1) / TILE * c.a.segments, columns = (int64_t)c.a.slots * c.a.G * c.a.D;
    dim3 grid = attention_grid(c.a, 0, c.a.G);
    grid.x = (unsigned)tiles;
    HB_TRY(launch("attention_backward, slots", c.a.D <= 64 ? dkdv_kernel<64> : dkdv_kernel<128>, grid,
                  ATTENTION_THREADS, 0, gpu_stream_of(context), c, (int)SLOTS));
    HB_TRY(launch("attention_backward, dslots_k", add_segments, blocks_for(columns, 256), 256, 0,
                  gpu_stream_of(context), c.dslots_k, f32_of(&args->dslots_k), c.a.segments, columns));
    return launch("attention_backward, dslots_v", add_segments, blocks_for(columns, 256), 256, 0,
                  gpu_stream_of(context), c.dslots_v, f32_of(&args->dslots_v), c.a.segments, columns);
}

static hb_status launch_gate(struct hb_context *context, const struct backward_call &c, float *leaf, float *dgate)
{
    HB_TRY(launch("attention_backward, gate", dgate_kernel, dim3((unsigned)c.a.segments, (unsigned)c.a.H), 32, 0,
                  gpu_stream_of(context), c.a, c.delta, c.slots_delta, leaf));
    return launch("attention_backward, dgate", add_segments, blocks_for(c.a.H, 256), 256, 0, gpu_stream_of(context),
                  leaf, dgate, c.a.segments, (int64_t)c.a.H);
}

hb_status HB_GPU(attention_backward)(struct hb_context *context, const struct hb_attention_backward_args *args)
{
    struct backward_call c = {};
    c.n = args->q.shape[0];
    c.a = attention_of(&args->q, &args->k, &args->v, &args->q_begin, &args->k_begin, &args->slots_k, &args->slots_v,
                       &args->gate);
    c.a.mask.bidirectional = args->bidirectional;
    c.a.mask.window = at_most_int(args->window);
    c.a.mask.sinks = at_most_int(args->sinks);
    c.a.combine = (int)args->combine;
    c.a.scale = args->scale;
    c.dout = array_of(&args->dout);
    c.out = array_of(&args->out);
    c.slots_out = array_of(&args->slots_out);
    c.dq = array_of(&args->dq);
    c.dk = array_of(&args->dk);
    c.dv = array_of(&args->dv);
    bool two = args->combine != HB_JOINT;
    c.lse = f32_of(&args->lse);
    c.slots_lse = two ? f32_of(&args->slots_lse) : c.lse;

    size_t rows = (size_t)c.n * (size_t)c.a.H, slots = (size_t)c.a.segments * (size_t)(c.a.slots * c.a.G) * (size_t)c.a.D;
    size_t leaves = args->combine == HB_GATED ? (size_t)c.a.segments * (size_t)c.a.H : 0;
    void *workspace;
    HB_TRY(gpu_workspace(context, (2 * rows + 2 * slots + leaves) * sizeof(float), &workspace));
    c.delta = static_cast<float *>(workspace);
    c.slots_delta = two ? c.delta + rows : c.delta;
    c.dslots_k = c.delta + 2 * rows;
    c.dslots_v = c.dslots_k + slots;
    float *leaf = c.dslots_v + slots;

    gpu_stream stream = gpu_stream_of(context);
    HB_TRY(launch_delta(context, c, c.out, c.delta));
    if (two)
        HB_TRY(launch_delta(context, c, c.slots_out, c.slots_delta));
    HB_TRY(launch("attention_backward, dq", c.a.D <= 64 ? dq_kernel<64> : dq_kernel<128>,
                  attention_grid(c.a, c.n, c.a.H), ATTENTION_THREADS, 0, stream, c));
    int64_t row = (int64_t)c.a.G * c.a.D;
    HB_TRY(launch("attention_backward, rest", clear_rest, blocks_for(row, 256), 256, 0, stream, c.dk, c.dv,
                  c.a.k_begin, c.a.segments, row, args->k.shape[0] * row));
    HB_TRY(launch("attention_backward, dk and dv", c.a.D <= 64 ? dkdv_kernel<64> : dkdv_kernel<128>,
                  attention_grid(c.a, args->k.shape[0], c.a.G), ATTENTION_THREADS, 0, stream, c, (int)KEYS));
    if (c.a.slots > 0)
        HB_TRY(launch_slots(context, c, args));
    if (args->combine == HB_GATED)
        HB_TRY(launch_gate(context, c, leaf, f32_of(&args->dgate)));
    return HB_OK;
}
