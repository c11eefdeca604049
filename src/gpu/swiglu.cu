#include "gpu/gpu.h"

extern "C" {
#include "ops/swiglu.h"
}

static __global__ void forward(struct array gate, struct array up, struct array out, int64_t n)
{
    for (int64_t i = first_element(); i < n; i += element_stride()) {
        float g = load(gate, i);
        store(out, i, (g * hb_sigmoidf(g)) * load(up, i));
    }
}

/* An output may lie over an input: all of an element is read before any of it is written. */
static __global__ void backward(struct array gate, struct array up, struct array dout, struct array dgate,
                                struct array dup, int64_t n)
{
    for (int64_t i = first_element(); i < n; i += element_stride()) {
        float g = load(gate, i), u = load(up, i), d = load(dout, i);
        float s = hb_sigmoidf(g);
        store(dup, i, d * (g * s));
        store(dgate, i, (d * u) * (s * fmaf(g, 1.0f - s, 1.0f)));
    }
}

extern "C" hb_status HB_GPU(swiglu_forward)(struct hb_context *context,
                                            const struct hb_swiglu_forward_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    return launch("swiglu_forward", forward, blocks_for(n, 256), 256, 0, gpu_stream_of(context),
                  array_of(&args->gate), array_of(&args->up), array_of(&args->out), n);
}

extern "C" hb_status HB_GPU(swiglu_backward)(struct hb_context *context,
                                             const struct hb_swiglu_backward_args *args)
{
    int64_t n = hb_tensor_count(&args->dout);
    return launch("swiglu_backward", backward, blocks_for(n, 256), 256, 0, gpu_stream_of(context),
                  array_of(&args->gate), array_of(&args->up), array_of(&args->dout), array_of(&args->dgate),
                  array_of(&args->dup), n);
}
