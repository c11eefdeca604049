#include "gpu/strip.h"

extern "C" {
#include "ops/swiglu.h"
}

static __global__ void forward(struct array gate, struct array up, struct array out, int64_t n)
{
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        float g[AT_ONCE], u[AT_ONCE];
        read_strip(g, gate, 0, s);
        read_strip(u, up, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            u[e] = (g[e] * hb_sigmoidf(g[e])) * u[e];
        write_strip(out, 0, s, u);
    }
}

/* An output may lie over an input: all of a strip is read before any of it is written. */
static __global__ void backward(struct array gate, struct array up, struct array dout, struct array dgate,
                                struct array dup, int64_t n)
{
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        float g[AT_ONCE], u[AT_ONCE], d[AT_ONCE];
        read_strip(g, gate, 0, s);
        read_strip(u, up, 0, s);
        read_strip(d, dout, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            float sigmoid = hb_sigmoidf(g[e]), above = d[e] * u[e];
            u[e] = d[e] * (g[e] * sigmoid);
            g[e] = above * (sigmoid * fmaf(g[e], 1.0f - sigmoid, 1.0f));
        }
        write_strip(dup, 0, s, u);
        write_strip(dgate, 0, s, g);
    }
}

extern "C" hb_status HB_GPU(swiglu_forward)(struct hb_context *context,
                                            const struct hb_swiglu_forward_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    return launch("swiglu_forward", forward, strip_blocks(n), STRIP_THREADS, 0, gpu_stream_of(context),
                  array_of(&args->gate), array_of(&args->up), array_of(&args->out), n);
}

extern "C" hb_status HB_GPU(swiglu_backward)(struct hb_context *context,
                                             const struct hb_swiglu_backward_args *args)
{
    int64_t n = hb_tensor_count(&args->dout);
    return launch("swiglu_backward", backward, strip_blocks(n), STRIP_THREADS, 0, gpu_stream_of(context),
                  array_of(&args->gate), array_of(&args->up), array_of(&args->dout), array_of(&args->dgate),
                  array_of(&args->dup), n);
}
