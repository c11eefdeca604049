#include "ops/add.h"

#include "ref/ref.h"

hb_status HB_REF(add)(struct hb_context *context, const struct hb_add_args *args)
{
    (void)context;
    int64_t n = hb_tensor_count(&args->out);
    if (args->out.dtype == HB_I64) {
        const int64_t *a = args->a.data, *b = args->b.data;
        int64_t *out = args->out.data;
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] + b[i];
        return HB_OK;
    }
    for (int64_t i = 0; i < n; i++)
        store(&args->out, i, load(&args->a, i) + load(&args->b, i));
    return HB_OK;
}
