#include "gpu/gpu.h"

extern "C" {
#include "ops/rope.h"
}

/* A block a token, its threads over the pairs (i, i + D/2) of its heads: so what divides has 32 bits.
 * y may be x. */
static __global__ void rotate(struct array x, const int32_t *positions, struct array cosine,
                              struct array sine, struct array y, int H, int half, bool backward)
{
    int64_t t = blockIdx.x, row = t * H * 2 * half, angle = positions[t] * (int64_t)half;
    for (int pair = (int)threadIdx.x; pair < H * half; pair += (int)blockDim.x) {
        int head = pair / half, i = pair % half;
        float c = load(cosine, angle + i), s = load(sine, angle + i);
        s = backward ? -s : s; /* the inverse rotation */
        int64_t low = row + head * 2 * half + i, high = low + half;
        float x_low = load(x, low), x_high = load(x, high);
        store(y, low, fmaf(x_low, c, -(x_high * s)));
        store(y, high, fmaf(x_high, c, x_low * s));
    }
}

extern "C" hb_status HB_GPU(rope)(struct hb_context *context, const struct hb_rope_args *args)
{
    int64_t n = args->x.shape[0], H = args->x.shape[1], half = args->x.shape[2] / 2;
    int threads = H * half < 256 ? (int)((H * half + 31) / 32 * 32) : 256;
    return launch("rope", rotate, (unsigned)n, threads, 0, gpu_stream_of(context), array_of(&args->x),
                  i32_of(&args->positions), array_of(&args->cosine), array_of(&args->sine),
                  array_of(&args->y), (int)H, (int)half, args->backward);
}
