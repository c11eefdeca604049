#include "ops/cast.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* Every cast goes through a block of fp32 in L1, so that n types need 2 n loops
 * and not n^2: widening to fp32 is exact, fp64 to a 16-bit type is defined as
 * two roundings. Only fp64 to fp64 must not pass here, and is a copy. */
static void cast_block(const struct hb_cast_args *args, int64_t begin, int64_t n)
{
    float block[HB_BLOCK];
    const float *wide = block;
    const double *x = (const double *)args->x.data + begin;
    double *out = (double *)args->out.data + begin;
    if (args->x.dtype == HB_F64 && args->out.dtype == HB_F64) {
        hb_move(&args->x, begin, &args->out, begin, n);
        return;
    }
    if (args->x.dtype == HB_F64)
        for (int64_t i = 0; i < n; i++)
            block[i] = (float)x[i];
    else
        wide = hb_read(&args->x, begin, n, block);
    if (args->out.dtype == HB_F64)
        for (int64_t i = 0; i < n; i++)
            out[i] = (double)wide[i];
    else
        hb_narrow(args->out.dtype, wide, n, args->out.data, begin);
}

hb_status HB_CPU(cast)(struct hb_context *context, const struct hb_cast_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t begin = 0; begin < n; begin += HB_BLOCK)
        cast_block(args, begin, hb_at_most(n - begin, HB_BLOCK));
    return HB_OK;
}
