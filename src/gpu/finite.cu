#include "gpu/strip.h"

extern "C" {
#include "ops/finite.h"
}

/* All exponent bits set: an infinity or a NaN, in any storage type and in fp32 alike. */
static __global__ void look(struct array x, int64_t n, int32_t *found, float bound, int64_t *extremes)
{
    int overflow = 0, underflow = 0;
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        float value[AT_ONCE]; /* 0 behind the end is neither */
        read_strip(value, x, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            float size = value[e] < 0 ? -value[e] : value[e];
            overflow += (~hb_bits_of_f32(value[e]) & 0x7f800000u) == 0;
            underflow += size > 0 && size < bound;
        }
    }
    if (overflow && found)
        atomicOr(found, 1);
    add_extremes(extremes, overflow, underflow);
}

extern "C" hb_status HB_GPU(finite)(struct hb_context *context, const struct hb_finite_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    /* Few blocks, each over many elements: most of them end without having anything to say. */
    return launch("finite", look, blocks_for(n, 2 * AT_ONCE * STRIP_THREADS), STRIP_THREADS, 0,
                  gpu_stream_of(context), array_of(&args->x), n, i32_of(&args->found),
                  (float)hb_underflow_bound(args->x.dtype), i64_of(&args->extremes));
}
