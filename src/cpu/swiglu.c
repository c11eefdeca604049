#include "ops/swiglu.h"

#include "core/math.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

enum { BLOCK = 4096 }; /* elements that a thread takes at once */

static void forward(const float *gate, const float *up, int64_t n, float *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = (gate[i] * hb_sigmoidf(gate[i])) * up[i];
}

/* All three are read before anything is stored: the gradients may lie over gate and up. */
static void backward(const float *gate, const float *up, const float *dout, int64_t n, float *dgate,
                     float *dup)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i];
        float s = hb_sigmoidf(g);
        dup[i] = d * (g * s);
        dgate[i] = (d * u) * (s * fmaf(g, 1.0f - s, 1.0f));
    }
}

hb_status HB_CPU(swiglu_forward)(struct hb_context *context, const struct hb_swiglu_forward_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    const float *gate = args->gate.data, *up = args->up.data;
    float *out = args->out.data;
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += BLOCK)
        forward(gate + i, up + i, hb_at_most(n - i, BLOCK), out + i);
    return HB_OK;
}

hb_status HB_CPU(swiglu_backward)(struct hb_context *context, const struct hb_swiglu_backward_args *args)
{
    int64_t n = hb_tensor_count(&args->dout);
    const float *gate = args->gate.data, *up = args->up.data, *dout = args->dout.data;
    float *dgate = args->dgate.data, *dup = args->dup.data;
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += BLOCK)
        backward(gate + i, up + i, dout + i, hb_at_most(n - i, BLOCK), dgate + i, dup + i);
    return HB_OK;
}
