#include "core/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/dtype.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "chunk hashes are defined over little-endian bytes: a big-endian machine must swap them first"
#endif

uint64_t hb_hash64(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t hb_hash64_name(const char *name)
{
    return XXH64(name, strlen(name), 0);
}

/* Negative for NaN only. A sign collects with `or`, which vectorises better than a comparison. */
static int32_t below_infinity(float x)
{
    return 0x7f800000 - (int32_t)(hb_bits_of_f32(x) & 0x7fffffffu);
}

uint64_t hb_chunk_hash(const float *chunk, size_t count)
{
    int32_t signs = 0;
    for (size_t i = 0; i < count; i++)
        signs |= below_infinity(chunk[i]);
    if (signs >= 0)
        return XXH3_64bits(chunk, count * sizeof *chunk);
    uint32_t canonical[HB_CHUNK];
    for (size_t i = 0; i < count; i++)
        canonical[i] = below_infinity(chunk[i]) < 0 ? 0x7fc00000u : hb_bits_of_f32(chunk[i]);
    return XXH3_64bits(canonical, count * sizeof *canonical);
}

static void put_u32(unsigned char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

static void put_u64(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

hb_status hb_digest_init(struct hb_digest *digest, uint32_t numerics_version)
{
    digest->state = XXH3_createState();
    if (!digest->state)
        return HB_FAIL(HB_EMEMORY, "out of memory: the state of a digest");
    unsigned char bytes[4];
    put_u32(bytes, numerics_version);
    XXH3_128bits_reset(digest->state);
    XXH3_128bits_update(digest->state, bytes, sizeof bytes);
    return HB_OK;
}

void hb_digest_release(struct hb_digest *digest)
{
    XXH3_freeState(digest->state);
    digest->state = NULL;
}

void hb_digest_add_chunk(struct hb_digest *digest, const char *name, uint64_t chunk_number,
                         uint64_t chunk_hash)
{
    size_t length = strlen(name);
    unsigned char front[4], back[16];
    put_u32(front, (uint32_t)length);
    put_u64(back, chunk_number);
    put_u64(back + 8, chunk_hash);
    XXH3_128bits_update(digest->state, front, sizeof front);
    XXH3_128bits_update(digest->state, name, length);
    XXH3_128bits_update(digest->state, back, sizeof back);
}

void hb_digest_value(const struct hb_digest *digest, char text[HB_DIGEST_TEXT + 1])
{
    XXH128_hash_t value = XXH3_128bits_digest(digest->state);
    snprintf(text, HB_DIGEST_TEXT + 1, "%016llx%016llx", (unsigned long long)value.high64,
             (unsigned long long)value.low64);
}
