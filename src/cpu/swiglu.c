#include "ops/swiglu.h"

#include "core/math.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

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

static void forward_block(const struct hb_swiglu_forward_args *args, int64_t begin, int64_t n)
{
    float gate[HB_BLOCK], up[HB_BLOCK], room[HB_BLOCK], *out = hb_place(&args->out, begin, room);
    forward(hb_read(&args->gate, begin, n, gate), hb_read(&args->up, begin, n, up), n, out);
    hb_write(&args->out, begin, n, out);
}

static void backward_block(const struct hb_swiglu_backward_args *args, int64_t begin, int64_t n)
{
    float gate[HB_BLOCK], up[HB_BLOCK], dout[HB_BLOCK], room[2][HB_BLOCK];
    float *dgate = hb_place(&args->dgate, begin, room[0]), *dup = hb_place(&args->dup, begin, room[1]);
    backward(hb_read(&args->gate, begin, n, gate), hb_read(&args->up, begin, n, up),
             hb_read(&args->dout, begin, n, dout), n, dgate, dup);
    hb_write(&args->dgate, begin, n, dgate);
    hb_write(&args->dup, begin, n, dup);
}

hb_status HB_CPU(swiglu_forward)(struct hb_context *context, const struct hb_swiglu_forward_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += HB_BLOCK)
        forward_block(args, i, hb_at_most(n - i, HB_BLOCK));
    return HB_OK;
}

hb_status HB_CPU(swiglu_backward)(struct hb_context *context, const struct hb_swiglu_backward_args *args)
{
    int64_t n = hb_tensor_count(&args->dout);
#pragma omp parallel for num_threads(hb_row_threads(context, n)) schedule(static)
    for (int64_t i = 0; i < n; i += HB_BLOCK)
        backward_block(args, i, hb_at_most(n - i, HB_BLOCK));
    return HB_OK;
}
