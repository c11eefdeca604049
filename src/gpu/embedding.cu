#include "gpu/gpu.h"

extern "C" {
#include "ops/embedding.h"
}

/* A block a token, its threads over the columns. */
static int threads_for(int64_t C)
{
    return C < 256 ? (int)((C + 31) / 32 * 32) : 256;
}

static __global__ void forward(struct array weight, const int32_t *ids, struct array out, int64_t C)
{
    int64_t t = blockIdx.x, r = ids[t];
    for (int64_t i = threadIdx.x; i < C; i += blockDim.x)
        store(out, t * C + i, load(weight, r * C + i));
}

static __global__ void forget(int32_t *first, int32_t *last, int64_t V)
{
    for (int64_t r = first_element(); r < V; r += element_stride()) {
        first[r] = INT32_MAX;
        last[r] = -1;
    }
}

/* Per row the first and the last token that has it. */
static __global__ void find_ends(const int32_t *ids, int64_t n, int32_t *first, int32_t *last)
{
    for (int64_t t = first_element(); t < n; t += element_stride()) {
        atomicMin(&first[ids[t]], (int32_t)t);
        atomicMax(&last[ids[t]], (int32_t)t);
    }
}

/* Per token the next one with its row, or -1; who is not the last looks ahead. */
static __global__ void link(const int32_t *ids, int64_t n, const int32_t *last, int32_t *next)
{
    for (int64_t t = first_element(); t < n; t += element_stride()) {
        int32_t r = ids[t];
        int64_t u = t + 1;
        if (last[r] == t)
            u = -1;
        else
            while (ids[u] != r)
                u++;
        next[t] = (int32_t)u;
    }
}

/* The block of a row's first token adds up all its tokens, in order. */
static __global__ void add_rows(const int32_t *ids, struct array dout, const int32_t *first,
                                const int32_t *next, const int32_t *present, struct array dweight, int64_t C)
{
    int64_t begin = blockIdx.x, r = ids[begin];
    if (first[r] != begin)
        return;
    for (int64_t i = threadIdx.x; i < C; i += blockDim.x) {
        float s = load(dout, begin * C + i);
        for (int64_t t = next[begin]; t >= 0; t = next[t])
            s = s + load(dout, t * C + i);
        store(dweight, r * C + i, present[r] ? load(dweight, r * C + i) + s : s);
    }
}

static __global__ void set_present(const int32_t *ids, int64_t n, const int32_t *first, int32_t *present)
{
    for (int64_t t = first_element(); t < n; t += element_stride())
        if (first[ids[t]] == t)
            present[ids[t]] = 1;
}

extern "C" hb_status HB_GPU(embedding_forward)(struct hb_context *context,
                                               const struct hb_embedding_forward_args *args)
{
    int64_t n = args->out.shape[0], C = args->out.shape[1];
    return launch("embedding_forward", forward, (unsigned)n, threads_for(C), 0, gpu_stream_of(context),
                  array_of(&args->weight), i32_of(&args->ids), array_of(&args->out), C);
}

extern "C" hb_status HB_GPU(embedding_backward)(struct hb_context *context,
                                                const struct hb_embedding_backward_args *args)
{
    int64_t n = args->dout.shape[0], C = args->dout.shape[1], V = args->dweight.shape[0];
    const int32_t *ids = i32_of(&args->ids);
    gpu_stream stream = gpu_stream_of(context);
    void *workspace;
    HB_TRY(gpu_workspace(context, (size_t)(2 * V + n) * sizeof(int32_t), &workspace));
    int32_t *first = static_cast<int32_t *>(workspace), *last = first + V, *next = last + V;
    HB_TRY(launch("embedding_backward", forget, blocks_for(V, 256), 256, 0, stream, first, last, V));
    HB_TRY(launch("embedding_backward", find_ends, blocks_for(n, 256), 256, 0, stream, ids, n, first, last));
    HB_TRY(launch("embedding_backward", link, blocks_for(n, 256), 256, 0, stream, ids, n, last, next));
    HB_TRY(launch("embedding_backward", add_rows, (unsigned)n, threads_for(C), 0, stream, ids,
                  array_of(&args->dout), first, next, i32_of(&args->present), array_of(&args->dweight), C));
    return launch("embedding_backward", set_present, blocks_for(n, 256), 256, 0, stream, ids, n, first,
                  i32_of(&args->present));
}
