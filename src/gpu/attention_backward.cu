/* attention, backward: what surrounds the two passes of attention_backward.h. */
#include "gpu/attention_fast.h"
#include "gpu/tree.h"

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
static __global__ void dgate_kernel(struct attention a, const float *delta, const float *slots_delta,
                                    float *leaf)
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
static hb_status launch_delta(struct hb_context *context, const struct backward_call &c,
                              const struct array &out, float *delta)
{
    int64_t rows = c.n * c.a.H;
    return launch("attention_backward, delta", delta_kernel, blocks_for(32 * rows, 256), 256, 0,
                  gpu_stream_of(context), c.dout, out, delta, rows, c.a.D);
}

static hb_status launch_slots(struct hb_context *context, const struct backward_call &c,
                              const struct hb_attention_backward_args *args, int type)
{
    int64_t tiles = (c.a.slots + TILE - 1) / TILE * c.a.segments,
            columns = (int64_t)c.a.slots * c.a.G * c.a.D;
    dim3 grid = attention_grid(c.a, 0, c.a.G);
    grid.x = (unsigned)tiles;
    HB_TRY(type == HB_F32 ? launch_dkdv<exact>(context, c, grid, SLOTS)
                          : HB_GPU(fast_dkdv)(context, c, grid, SLOTS, type));
    HB_TRY(launch("attention_backward, dslots_k", add_segments, blocks_for(columns, 256), 256, 0,
                  gpu_stream_of(context), c.dslots_k, f32_of(&args->dslots_k), c.a.segments, columns));
    return launch("attention_backward, dslots_v", add_segments, blocks_for(columns, 256), 256, 0,
                  gpu_stream_of(context), c.dslots_v, f32_of(&args->dslots_v), c.a.segments, columns);
}

static hb_status launch_gate(struct hb_context *context, const struct backward_call &c, float *leaf,
                             float *dgate)
{
    HB_TRY(launch("attention_backward, gate", dgate_kernel, dim3((unsigned)c.a.segments, (unsigned)c.a.H), 32,
                  0, gpu_stream_of(context), c.a, c.delta, c.slots_delta, leaf));
    return launch("attention_backward, dgate", add_segments, blocks_for(c.a.H, 256), 256, 0,
                  gpu_stream_of(context), leaf, dgate, c.a.segments, (int64_t)c.a.H);
}

extern "C" hb_status HB_GPU(attention_backward)(struct hb_context *context,
                                                const struct hb_attention_backward_args *args)
{
    struct backward_call c = {};
    c.n = args->q.shape[0];
    c.a = attention_of(&args->q, &args->k, &args->v, &args->q_begin, &args->k_begin, &args->slots_k,
                       &args->slots_v, &args->gate);
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

    size_t rows = (size_t)c.n * (size_t)c.a.H;
    size_t slots = (size_t)c.a.segments * (size_t)c.a.slots * (size_t)c.a.G * (size_t)c.a.D;
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
    int type = gpu_is_fast(context) ? HB_GPU(fast_type)(c.a, &c.dout) : (int)HB_F32;
    HB_TRY(type == HB_F32 ? launch_dq<exact>(context, c) : HB_GPU(fast_dq)(context, c, type));
    int64_t row = (int64_t)c.a.G * c.a.D;
    HB_TRY(launch("attention_backward, rest", clear_rest, blocks_for(row, 256), 256, 0, stream, c.dk, c.dv,
                  c.a.k_begin, c.a.segments, row, args->k.shape[0] * row));
    dim3 grid = attention_grid(c.a, args->k.shape[0], c.a.G);
    HB_TRY(type == HB_F32 ? launch_dkdv<exact>(context, c, grid, KEYS)
                          : HB_GPU(fast_dkdv)(context, c, grid, KEYS, type));
    if (c.a.slots > 0)
        HB_TRY(launch_slots(context, c, args, type));
    if (args->combine == HB_GATED)
        HB_TRY(launch_gate(context, c, leaf, f32_of(&args->dgate)));
    return HB_OK;
}
