#include "ops/rope.h"

#include "ref/ref.h"

hb_status HB_REF(rope)(struct hb_context *context, const struct hb_rope_args *args)
{
    (void)context;
    int64_t n = args->x.shape[0], H = args->x.shape[1], D = args->x.shape[2], half = D / 2;
    const int32_t *positions = args->positions.data;
    for (int64_t t = 0; t < n; t++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < half; i++) {
                real c = load(&args->cosine, positions[t] * half + i);
                real s = load(&args->sine, positions[t] * half + i);
                if (args->backward) /* the inverse rotation */
                    s = -s;
                int64_t low = (t * H + h) * D + i, high = low + half;
                real x_low = load(&args->x, low), x_high = load(&args->x, high);
                store(&args->y, low, real_fma(x_low, c, -(x_high * s)));
                store(&args->y, high, real_fma(x_high, c, x_low * s));
            }
    return HB_OK;
}
