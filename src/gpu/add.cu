#include "gpu/strip.h"

extern "C" {
#include "ops/add.h"
}

static __global__ void add_floats(struct array a, struct array b, struct array out, int64_t n)
{
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        float x[AT_ONCE], y[AT_ONCE];
        read_strip(x, a, 0, s);
        read_strip(y, b, 0, s);
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            x[e] = x[e] + y[e];
        write_strip(out, 0, s, x);
    }
}

static __global__ void add_integers(const int64_t *a, const int64_t *b, int64_t *out, int64_t n)
{
    for (int64_t i = first_element(); i < n; i += element_stride())
        out[i] = a[i] + b[i];
}

extern "C" hb_status HB_GPU(add)(struct hb_context *context, const struct hb_add_args *args)
{
    int64_t n = hb_tensor_count(&args->out);
    if (args->out.dtype == HB_I64)
        return launch("add", add_integers, blocks_for(n, 256), 256, 0, gpu_stream_of(context),
                      i64_of(&args->a), i64_of(&args->b), i64_of(&args->out), n);
    return launch("add", add_floats, strip_blocks(n), STRIP_THREADS, 0, gpu_stream_of(context),
                  array_of(&args->a), array_of(&args->b), array_of(&args->out), n);
}
