#include "gpu/strip.h"

extern "C" {
#include "ops/cast.h"
}

/* Every storage type widens to fp64 exactly. */
static __device__ inline double widened(struct array x, int64_t i)
{
    return x.dtype == HB_F64 ? static_cast<const double *>(x.data)[i] : (double)load(x, i);
}

static __global__ void cast(struct array x, struct array out, int64_t n)
{
    for (int64_t i = first_element(); i < n; i += element_stride()) {
        double value = widened(x, i);
        if (out.dtype == HB_F64)
            static_cast<double *>(out.data)[i] = value;
        else
            store(out, i, (float)value);
    }
}

static __global__ void cast_floats(struct array x, struct array out, int64_t n)
{
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        float value[AT_ONCE];
        read_strip(value, x, 0, s);
        write_strip(out, 0, s, value);
    }
}

extern "C" hb_status HB_GPU(cast)(struct hb_context *context, const struct hb_cast_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    if (args->x.dtype != HB_F64 && args->out.dtype != HB_F64)
        return launch("cast", cast_floats, strip_blocks(n), STRIP_THREADS, 0, gpu_stream_of(context),
                      array_of(&args->x), array_of(&args->out), n);
    return launch("cast", cast, blocks_for(n, 256), 256, 0, gpu_stream_of(context), array_of(&args->x),
                  array_of(&args->out), n);
}
