#include "gpu/gpu.h"

extern "C" {
#include "ops/rope.h"
}

/* One thread a pair (i, i + D/2); y may be x. */
static __global__ void rotate(struct array x, const int32_t *positions, struct array cosine,
                              struct array sine, struct array y, int64_t pairs, int H, int half,
                              bool backward)
{
    for (int64_t pair = first_element(); pair < pairs; pair += element_stride()) {
        int64_t head = pair / half, i = pair % half; /* head h of token t is number t H + h */
        int64_t at = positions[head / H] * (int64_t)half + i;
        float c = load(cosine, at), s = load(sine, at);
        s = backward ? -s : s; /* the inverse rotation */
        int64_t low = head * 2 * half + i, high = low + half;
        float x_low = load(x, low), x_high = load(x, high);
        store(y, low, fmaf(x_low, c, -(x_high * s)));
        store(y, high, fmaf(x_high, c, x_low * s));
    }
}

extern "C" hb_status HB_GPU(rope)(struct hb_context *context, const struct hb_rope_args *args)
{
    int64_t pairs = hb_tensor_count(&args->x) / 2;
    return launch("rope", rotate, blocks_for(pairs, 256), 256, 0, gpu_stream_of(context), array_of(&args->x),
                  i32_of(&args->positions), array_of(&args->cosine), array_of(&args->sine),
                  array_of(&args->y), pairs, (int)args->x.shape[1], (int)(args->x.shape[2] / 2),
                  args->backward);
}
