#include "ops/digest.h"

#include "core/hash.h"
#include "ref/ref.h"

hb_status HB_REF(digest)(struct hb_context *context, const struct hb_digest_args *args)
{
    (void)context;
    int64_t G = args->groups, each = hb_tensor_count(&args->x) / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    uint64_t *hash = args->chunk_hash.data;
    float chunk[HB_CHUNK];
    for (int64_t g = 0; g < G; g++)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t begin = c * HB_CHUNK, count = each - begin < HB_CHUNK ? each - begin : HB_CHUNK;
            for (int64_t i = 0; i < count; i++)
                chunk[i] = (float)load(&args->x, g * each + begin + i);
            hash[g * chunks + c] = hb_chunk_hash(chunk, (size_t)count);
        }
    return HB_OK;
}
