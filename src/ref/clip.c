#include "ops/clip.h"

#include "ref/ref.h"

hb_status HB_REF(clip)(struct hb_context *context, const struct hb_clip_args *args)
{
    (void)context;
    const double *squares = args->squares.data;
    const int32_t *order = args->order.data;
    double sum = 0;
    for (int64_t i = 0; i < args->squares.shape[0]; i++)
        sum = sum + squares[order ? order[i] : i];
    double norm = sqrt(sum), coef = 1;
    if (args->max_norm > 0) {
        double ratio = (double)args->max_norm / (norm + 1e-6);
        coef = ratio > 1 ? 1 : ratio; /* a NaN stays NaN */
    }
    *(double *)args->norm.data = norm;
    store(&args->coef, 0, (real)coef);
    return HB_OK;
}
