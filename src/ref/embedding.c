#include "ops/embedding.h"

#include "ref/ref.h"

hb_status HB_REF(embedding_forward)(struct hb_context *context, const struct hb_embedding_forward_args *args)
{
    (void)context;
    int64_t n = args->out.shape[0], C = args->out.shape[1];
    const int32_t *ids = args->ids.data;
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < C; i++)
            store(&args->out, t * C + i, load(&args->weight, ids[t] * C + i));
    return HB_OK;
}

hb_status HB_REF(embedding_backward)(struct hb_context *context,
                                     const struct hb_embedding_backward_args *args)
{
    int64_t n = args->dout.shape[0], C = args->dout.shape[1], V = args->dweight.shape[0];
    const int32_t *ids = args->ids.data;
    int32_t *present = args->present.data;
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(V + n) * sizeof(int64_t), &workspace));
    int64_t *first = workspace; /* per row: the first token that has it, or -1 */
    int64_t *next = first + V;  /* per token: the next one with the same row, or -1 */
    for (int64_t r = 0; r < V; r++)
        first[r] = -1;
    for (int64_t t = n - 1; t >= 0; t--) {
        next[t] = first[ids[t]];
        first[ids[t]] = t;
    }
    for (int64_t r = 0; r < V; r++) {
        if (first[r] < 0)
            continue;
        for (int64_t i = 0; i < C; i++) {
            real s = load(&args->dout, first[r] * C + i);
            for (int64_t t = next[first[r]]; t >= 0; t = next[t])
                s = s + load(&args->dout, t * C + i);
            if (present[r])
                s = load(&args->dweight, r * C + i) + s;
            store(&args->dweight, r * C + i, s);
        }
        present[r] = 1;
    }
    return HB_OK;
}
