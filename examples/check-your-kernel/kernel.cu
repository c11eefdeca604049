/* Your kernel: one op, in the dialect of src/gpu/dialect.h. This one is
 * rmsnorm_forward with the sum of squares in shared memory, a warp a row:
 * lane l takes elements l, l + 32, ..., then the lanes are added as a tree
 * (docs/numerics.md, rule 3). It has a mistake; README.md finds it. */
#include "gpu/gpu.h"

extern "C" {
#include "ops/rmsnorm.h"
}

static __global__ void my_rmsnorm(struct array x, struct array weight, struct array y, float *rstd, int64_t D,
                                  float eps)
{
    SHARED(float, part, [32]);
    int64_t t = blockIdx.x;
    int lane = (int)threadIdx.x;
    float sum = 0.0f;
    /* the mistake: a row's last, shorter part is forgotten */
    for (int64_t i = lane; i + 31 - lane < D; i += 32) {
        float v = load(x, t * D + i);
        sum = fmaf(v, v, sum);
    }
    part[lane] = sum;
    __syncwarp();
    for (int s = 16; s > 0; s /= 2) {
        if (lane < s)
            part[lane] = part[lane] + part[lane + s];
        __syncwarp();
    }
    float r = 1.0f / sqrtf(part[0] / (float)D + eps);
    for (int64_t i = lane; i < D; i += 32)
        store(y, t * D + i, (load(x, t * D + i) * r) * load(weight, i));
    if (lane == 0)
        rstd[t] = r;
}

extern "C" hb_status my_rmsnorm_forward(struct hb_context *context,
                                        const struct hb_rmsnorm_forward_args *args)
{
    int64_t n = args->x.shape[0], D = args->x.shape[1];
    return launch("my_rmsnorm", my_rmsnorm, (unsigned)n, 32, 0, gpu_stream_of(context), array_of(&args->x),
                  array_of(&args->weight), array_of(&args->y), f32_of(&args->rstd), D, args->eps);
}
