#include "ops/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/hash.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* hb_chunk_hash at this file's level of instructions; NaNs it leaves to that. */
static uint64_t chunk_hash(const float *chunk, int64_t count)
{
    uint32_t nans = 0;
    for (int64_t i = 0; i < count; i++)
        nans |= chunk[i] != chunk[i];
    return nans ? hb_chunk_hash(chunk, (size_t)count) : XXH3_64bits(chunk, (size_t)count * sizeof *chunk);
}

hb_status HB_CPU(digest)(struct hb_context *context, const struct hb_digest_args *args)
{
    int64_t G = args->groups, n = hb_tensor_count(&args->x), each = n / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    uint64_t *hash = args->chunk_hash.data;
    int threads = hb_row_threads(context, n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < G * chunks; k++) {
        int64_t begin = k % chunks * HB_CHUNK, count = hb_at_most(each - begin, HB_CHUNK);
        float buffer[HB_CHUNK];
        hash[k] = chunk_hash(hb_read(&args->x, k / chunks * each + begin, count, buffer), count);
    }
    return HB_OK;
}
