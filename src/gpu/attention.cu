#include "gpu/attention_fast.h"

extern "C" hb_status HB_GPU(attention_forward)(struct hb_context *context,
                                               const struct hb_attention_forward_args *args)
{
    struct forward_call c = {};
    c.a = attention_of(&args->q, &args->k, &args->v, &args->q_begin, &args->k_begin, &args->slots_k,
                       &args->slots_v, &args->gate);
    c.a.mask.bidirectional = args->bidirectional;
    c.a.mask.window = at_most_int(args->window);
    c.a.mask.sinks = at_most_int(args->sinks);
    c.a.ring = args->ring ? at_most_int(args->ring) : NO_RING;
    c.a.combine = (int)args->combine;
    c.a.scale = args->scale;
    c.out = array_of(&args->out);
    c.rest_out = array_of(args->combine == HB_JOINT ? &args->out : &args->rest_out);
    c.slots_out = array_of(&args->slots_out);
    c.lse = f32_of(&args->lse);
    c.slots_lse = f32_of(&args->slots_lse);
    int64_t rows = args->q.shape[0];
    int type = gpu_is_fast(context) ? HB_GPU(fast_type)(c.a, NULL) : (int)HB_F32;
    return type == HB_F32 ? launch_forward<exact>(context, c, rows)
                          : HB_GPU(fast_forward)(context, c, rows, type);
}
