#include "ops/digest.h"

#include "core/hash.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

hb_status HB_CPU(digest)(struct hb_context *context, const struct hb_digest_args *args)
{
    int64_t G = args->groups, n = hb_tensor_count(&args->x), each = n / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    const float *x = args->x.data;
    uint64_t *hash = args->chunk_hash.data;
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < G * chunks; k++) {
        int64_t begin = k % chunks * HB_CHUNK, count = each - begin < HB_CHUNK ? each - begin : HB_CHUNK;
        hash[k] = hb_chunk_hash(x + k / chunks * each + begin, (size_t)count);
    }
    return HB_OK;
}
