#include "ops/swiglu.h"

#include "core/math.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

hb_status HB_CPU(swiglu_forward)(struct hb_context *context, const struct hb_swiglu_forward_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    const float *gate = args->gate.data, *up = args->up.data;
    float *out = args->out.data;
#pragma omp parallel for simd num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i++)
        out[i] = (gate[i] * hb_sigmoidf(gate[i])) * up[i];
    return HB_OK;
}

hb_status HB_CPU(swiglu_backward)(struct hb_context *context, const struct hb_swiglu_backward_args *args)
{
    int64_t n = hb_tensor_count(&args->dout);
    const float *gate = args->gate.data, *up = args->up.data, *dout = args->dout.data;
    float *dgate = args->dgate.data, *dup = args->dup.data;
#pragma omp parallel for simd num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i]; /* before the stores: gradients may lie over them */
        float s = hb_sigmoidf(g);
        dup[i] = d * (g * s);
        dgate[i] = (d * u) * (s * fmaf(g, 1.0f - s, 1.0f));
    }
    return HB_OK;
}
