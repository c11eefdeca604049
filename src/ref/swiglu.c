#include "ops/swiglu.h"

#include "ref/ref.h"

hb_status HB_REF(swiglu_forward)(struct hb_context *context, const struct hb_swiglu_forward_args *args)
{
    (void)context;
    int64_t n = hb_tensor_count(&args->out);
    for (int64_t i = 0; i < n; i++) {
        real gate = load(&args->gate, i);
        store(&args->out, i, (gate * real_sigmoid(gate)) * load(&args->up, i));
    }
    return HB_OK;
}

hb_status HB_REF(swiglu_backward)(struct hb_context *context, const struct hb_swiglu_backward_args *args)
{
    (void)context;
    int64_t n = hb_tensor_count(&args->dout);
    for (int64_t i = 0; i < n; i++) {
        real gate = load(&args->gate, i), up = load(&args->up, i), dout = load(&args->dout, i);
        real s = real_sigmoid(gate);
        store(&args->dup, i, dout * (gate * s));
        store(&args->dgate, i, (dout * up) * (s * real_fma(gate, 1 - s, 1)));
    }
    return HB_OK;
}
