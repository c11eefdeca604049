#include "gpu/gpu.h"
#include "gpu/hash.h"

extern "C" {
#include "ops/digest.h"
}

enum { THREADS = 256 };

/* A block a chunk. */
static __global__ void hash_chunks(struct array x, int64_t each, int64_t chunks, int64_t *hash)
{
    SHARED(uint32_t, words, [HB_CHUNK]);
    SHARED(struct hash_space, space, [1]);
    int64_t g = blockIdx.x / chunks, begin = blockIdx.x % chunks * HB_CHUNK;
    int count = (int)smaller(each - begin, HB_CHUNK);
    for (int i = (int)threadIdx.x; i < count; i += THREADS)
        words[i] = hashed_bits(load(x, g * each + begin + i));
    __syncthreads();
    uint64_t h = hash_chunk(words, count, space);
    if (threadIdx.x == 0)
        hash[blockIdx.x] = (int64_t)h;
}

extern "C" hb_status HB_GPU(digest)(struct hb_context *context, const struct hb_digest_args *args)
{
    int64_t G = args->groups, each = hb_tensor_count(&args->x) / G;
    int64_t chunks = (each + HB_CHUNK - 1) / HB_CHUNK;
    return launch("digest", hash_chunks, (unsigned)(G * chunks), THREADS, 0, gpu_stream_of(context),
                  array_of(&args->x), each, chunks, i64_of(&args->chunk_hash));
}
