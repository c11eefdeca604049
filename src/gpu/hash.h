/* XXH3-64 of one chunk by a block of threads: what core/hash.h's hb_chunk_hash
 * gives, for 0 to 4096 words of four bytes in shared memory.
 * Definition: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, XXH3.
 *
 * From 241 bytes on, a block of 1024 bytes is 16 stripes of 64; a stripe adds to
 * eight accumulators, and only the scrambling after each block is a chain. So
 * 128 threads take (block, accumulator) pairs, each its 16 stripes, and eight go
 * through the blocks. Shorter chunks (small tensors, ends of tensors) are one
 * thread's work. */
#ifndef HB_GPU_HASH_H
#define HB_GPU_HASH_H

#include "gpu/storage.h"

extern "C" {
#include "core/hash.h"
}

enum { HASH_BLOCKS = 16, HASH_ACCUMULATORS = 8, HASH_THREADS = HASH_BLOCKS * HASH_ACCUMULATORS };

static __constant__ unsigned char hash_secret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static const uint32_t HASH_32_1 = 0x9e3779b1u, HASH_32_2 = 0x85ebca77u, HASH_32_3 = 0xc2b2ae3du;
static const uint64_t HASH_64_1 = 0x9e3779b185ebca87u, HASH_64_2 = 0xc2b2ae3d27d4eb4fu;
static const uint64_t HASH_64_3 = 0x165667b19e3779f9u, HASH_64_4 = 0x85ebca77c2b2ae63u;
static const uint64_t HASH_64_5 = 0x27d4eb2f165667c5u;
static const uint64_t HASH_MIX_1 = 0x165667919e3779f9u, HASH_MIX_2 = 0x9fb21c651e98df25u;

/* Shared memory that a hash needs besides the words. */
struct hash_space {
    uint64_t sum[HASH_BLOCKS][HASH_ACCUMULATORS];
};

struct chunk_hash {
    const uint32_t *words;
    int bytes;

    static __device__ inline uint64_t secret(int at)
    {
        uint64_t value = 0;
        for (int i = 7; i >= 0; i--)
            value = value << 8 | hash_secret[at + i];
        return value;
    }

    static __device__ inline uint64_t fold(uint64_t a, uint64_t b)
    {
        return (a * b) ^ __umul64hi(a, b);
    }

    static __device__ inline uint64_t avalanche(uint64_t h)
    {
        h = (h ^ h >> 37) * HASH_MIX_1;
        return h ^ h >> 32;
    }

    static __device__ inline uint64_t rotated(uint64_t h, int by)
    {
        return h << by | h >> (64 - by);
    }

    static __device__ inline uint64_t swapped(uint64_t x)
    {
        x = (x & 0x00ff00ff00ff00ffu) << 8 | (x >> 8 & 0x00ff00ff00ff00ffu);
        x = (x & 0x0000ffff0000ffffu) << 16 | (x >> 16 & 0x0000ffff0000ffffu);
        return x << 32 | x >> 32;
    }

    /* Eight bytes from byte `at`, a multiple of four. */
    __device__ inline uint64_t read(int at) const
    {
        return words[at / 4] | (uint64_t)words[at / 4 + 1] << 32;
    }

    __device__ inline uint64_t mix(int at, int secret_at) const
    {
        return fold(read(at) ^ secret(secret_at), read(at + 8) ^ secret(secret_at + 8));
    }

    __device__ inline uint64_t up_to_16(void) const
    {
        if (bytes == 0) {
            uint64_t h = secret(56) ^ secret(64);
            h = (h ^ h >> 33) * HASH_64_2;
            h = (h ^ h >> 29) * HASH_64_3;
            return h ^ h >> 32;
        }
        if (bytes <= 8) {
            uint64_t h = (words[bytes / 4 - 1] | (uint64_t)words[0] << 32) ^ (secret(8) ^ secret(16));
            h ^= rotated(h, 49) ^ rotated(h, 24);
            h *= HASH_MIX_2;
            h ^= (h >> 35) + (uint64_t)bytes;
            h *= HASH_MIX_2;
            return h ^ h >> 28;
        }
        uint64_t low = read(0) ^ (secret(24) ^ secret(32)),
                 high = read(bytes - 8) ^ (secret(40) ^ secret(48));
        return avalanche((uint64_t)bytes + swapped(low) + high + fold(low, high));
    }

    __device__ inline uint64_t up_to_240(void) const
    {
        uint64_t h = (uint64_t)bytes * HASH_64_1;
        if (bytes <= 128) {
            for (int i = (bytes - 1) / 32; i >= 0; i--)
                h += mix(16 * i, 32 * i) + mix(bytes - 16 * (i + 1), 32 * i + 16);
            return avalanche(h);
        }
        for (int i = 0; i < 8; i++)
            h += mix(16 * i, 16 * i);
        h = avalanche(h);
        for (int i = 8; i < bytes / 16; i++)
            h += mix(16 * i, 16 * (i - 8) + 3);
        return avalanche(h + mix(bytes - 16, 136 - 17));
    }

    /* What the stripe at byte `at` adds to an accumulator. */
    __device__ inline uint64_t stripe(int at, int secret_at, int accumulator) const
    {
        uint64_t keyed = read(at + 8 * accumulator) ^ secret(secret_at + 8 * accumulator);
        return read(at + 8 * (accumulator ^ 1)) + (keyed & 0xffffffffu) * (keyed >> 32);
    }

    /* Stripes before the last one, which ends with the chunk. */
    __device__ inline int stripes(void) const
    {
        return (bytes - 1) / 64;
    }

    __device__ inline uint64_t block_sum(int block, int accumulator) const
    {
        uint64_t sum = 0;
        for (int s = 0; s < 16 && 16 * block + s < stripes(); s++)
            sum += stripe(1024 * block + 64 * s, 8 * s, accumulator);
        return sum;
    }

    static __device__ inline uint64_t start(int accumulator)
    {
        switch (accumulator) {
        case 0: return HASH_32_3;
        case 1: return HASH_64_1;
        case 2: return HASH_64_2;
        case 3: return HASH_64_3;
        case 4: return HASH_64_4;
        case 5: return HASH_32_2;
        case 6: return HASH_64_5;
        default: return HASH_32_1;
        }
    }

    /* One accumulator through all blocks. */
    __device__ inline uint64_t chain(const struct hash_space *space, int accumulator) const
    {
        uint64_t h = start(accumulator);
        int full = (bytes - 1) / 1024;
        for (int block = 0; block < full; block++) {
            h += space->sum[block][accumulator];
            h = (h ^ h >> 47 ^ secret(128 + 8 * accumulator)) * HASH_32_1;
        }
        return h + space->sum[full][accumulator] + stripe(bytes - 64, 121, accumulator);
    }

    __device__ inline uint64_t merge(const uint64_t *accumulators) const
    {
        uint64_t h = (uint64_t)bytes * HASH_64_1;
        for (int i = 0; i < 4; i++)
            h += fold(accumulators[2 * i] ^ secret(11 + 16 * i),
                      accumulators[2 * i + 1] ^ secret(19 + 16 * i));
        return avalanche(h);
    }
};

/* Called by all threads of a block of at least HASH_THREADS after a barrier behind
 * the words; the hash is that of thread 0. Its end is a barrier too. */
static __device__ inline uint64_t hash_chunk(const uint32_t *words, int count, struct hash_space *space)
{
    struct chunk_hash chunk = {words, 4 * count};
    int thread = (int)threadIdx.x;
    uint64_t h = 0;
    if (chunk.bytes <= 240) {
        if (thread == 0)
            h = chunk.bytes <= 16 ? chunk.up_to_16() : chunk.up_to_240();
        __syncthreads();
        return h;
    }
    int block = thread / HASH_ACCUMULATORS, accumulator = thread % HASH_ACCUMULATORS;
    if (thread < HASH_THREADS)
        space->sum[block][accumulator] = chunk.block_sum(block, accumulator);
    __syncthreads();
    if (thread < HASH_ACCUMULATORS) /* reads and writes its own column */
        space->sum[0][thread] = chunk.chain(space, accumulator);
    __syncthreads();
    if (thread == 0)
        h = chunk.merge(space->sum[0]);
    __syncthreads();
    return h;
}

/* The bits that are hashed: every NaN as one. */
static __device__ inline uint32_t hashed_bits(float x)
{
    uint32_t bits = hb_bits_of_f32(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits;
}

#endif
