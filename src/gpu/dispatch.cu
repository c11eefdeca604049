#include "gpu/strip.h"

extern "C" {
#include "ops/dispatch.h"
}

/* Pairs are sorted by expert without moving past each other: a warp an expert reads
 * all of them in order and has its lanes vote on 32 at a time. Several are read
 * before the first vote, so that it does not wait for each. */

/* Calls use(pair, votes) for this lane's pairs, ascending; bit l: that of lane l is the expert's. */
template <typename U>
static __device__ inline void vote(const int32_t *index, int64_t pairs, int expert, U use)
{
    for (int64_t begin = 0; begin < pairs; begin += 32 * AT_ONCE) {
        int64_t first = begin + threadIdx.x;
        int32_t expert_of[AT_ONCE];
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            expert_of[e] = first + 32 * e < pairs ? index[first + 32 * e] : -1;
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            use(first + 32 * e, __ballot_sync(WARP, expert_of[e] == expert));
    }
}

static __global__ void count_pairs(const int32_t *index, int64_t pairs, int32_t *counts)
{
    int expert = (int)blockIdx.x, mine = 0;
    vote(index, pairs, expert, [&](int64_t, unsigned votes) { mine += __popc(votes); });
    if (threadIdx.x == 0)
        counts[expert] = mine;
}

static __global__ void place_pairs(const int32_t *index, int64_t pairs, int64_t E, const int32_t *counts,
                                   int32_t *offsets, int32_t *row_of, int32_t *pair_of)
{
    int expert = (int)blockIdx.x, lane = (int)threadIdx.x;
    int row = 0;
    for (int e = lane; e < expert; e += 32)
        row += counts[e];
    for (int s = 16; s > 0; s /= 2)
        row += __shfl_xor_sync(WARP, row, s);
    if (lane == 0) {
        offsets[expert] = row;
        if (expert == E - 1)
            offsets[E] = row + counts[expert];
    }
    vote(index, pairs, expert, [&](int64_t pair, unsigned votes) {
        if (votes >> lane & 1u) {
            int at = row + __popc(votes & ((1u << lane) - 1u));
            row_of[pair] = at;
            pair_of[at] = (int32_t)pair;
        }
        row += __popc(votes);
    });
}

/* A block a row, its threads over the columns. */
static int threads_for(int64_t C)
{
    return C < 256 ? (int)((C + 31) / 32 * 32) : 256;
}

static __global__ void forward(struct array x, const int32_t *pair_of, struct array rows, int64_t K,
                               int64_t C)
{
    int64_t r = blockIdx.x, t = pair_of[r] / K;
    for (auto s = strip_of_block(C); s.has(0); s.next()) {
        float v[AT_ONCE];
        read_strip(v, x, t * C, s);
        write_strip(rows, r * C, s, v);
    }
}

static __global__ void backward(struct array drows, const int32_t *row_of, struct array dx, int64_t K,
                                int64_t C)
{
    int64_t t = blockIdx.x;
    for (auto s = strip_of_block(C); s.has(0); s.next()) {
        float sum[AT_ONCE], x[AT_ONCE];
        read_strip(sum, drows, row_of[t * K] * C, s);
        for (int64_t j = 1; j < K; j++) {
            read_strip(x, drows, row_of[t * K + j] * C, s);
            UNROLL
            for (int e = 0; e < AT_ONCE; e++)
                sum[e] = sum[e] + x[e];
        }
        write_strip(dx, t * C, s, sum);
    }
}

extern "C" hb_status HB_GPU(dispatch_plan)(struct hb_context *context,
                                           const struct hb_dispatch_plan_args *args)
{
    int64_t pairs = hb_tensor_count(&args->index), E = args->offsets.shape[0] - 1;
    void *counts;
    HB_TRY(gpu_workspace(context, (size_t)E * sizeof(int32_t), &counts));
    HB_TRY(launch("dispatch_plan", count_pairs, (unsigned)E, 32, 0, gpu_stream_of(context),
                  i32_of(&args->index), pairs, static_cast<int32_t *>(counts)));
    return launch("dispatch_plan", place_pairs, (unsigned)E, 32, 0, gpu_stream_of(context),
                  i32_of(&args->index), pairs, E, static_cast<int32_t *>(counts), i32_of(&args->offsets),
                  i32_of(&args->row_of), i32_of(&args->pair_of));
}

extern "C" hb_status HB_GPU(dispatch_forward)(struct hb_context *context,
                                              const struct hb_dispatch_forward_args *args)
{
    int64_t n = args->x.shape[0], C = args->x.shape[1], pairs = args->pair_of.shape[0];
    return launch("dispatch_forward", forward, (unsigned)pairs, threads_for(C), 0, gpu_stream_of(context),
                  array_of(&args->x), i32_of(&args->pair_of), array_of(&args->rows), n ? pairs / n : 1, C);
}

extern "C" hb_status HB_GPU(dispatch_backward)(struct hb_context *context,
                                               const struct hb_dispatch_backward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dx.shape[1];
    return launch("dispatch_backward", backward, (unsigned)n, threads_for(C), 0, gpu_stream_of(context),
                  array_of(&args->drows), i32_of(&args->row_of), array_of(&args->dx), K, C);
}
