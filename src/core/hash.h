/* Hashes (xxHash, whose results are the same on every machine) and the digest
 * of parameters by which two runs are compared.
 *
 * The digest is XXH3-128 (seed 0) over, little-endian:
 *     u32 numerics version
 *     per chunk, tensors in bytewise order of names, chunks ascending:
 *         u32 length of the name, the name, u64 chunk number, u64 chunk hash
 * A chunk is 4096 elements of one logical tensor (the last may be shorter);
 * its hash is XXH3-64 of its fp32 bytes, every NaN taken as 7fc00000. Chunk
 * hashes can be made anywhere, by any thread or rank; only the digest needs
 * them in order. */
#ifndef HB_CORE_HASH_H
#define HB_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Elements of a chunk: the unit of digest, norm and sharding. */
enum { HB_CHUNK = 4096 };

/* XXH3-64 of `size` bytes. */
uint64_t hb_hash64(const void *data, size_t size);

/* XXH64, seed 0, of the name without its NUL: the subject of its random numbers. */
uint64_t hb_hash64_name(const char *name);

/* Hash of one chunk, 0 <= count <= HB_CHUNK. */
uint64_t hb_chunk_hash(const float *chunk, size_t count);

struct hb_digest {
    struct XXH3_state_s *state; /* owned */
};

/* Length of a digest as text, without the NUL. */
enum { HB_DIGEST_TEXT = 32 };

/* Starts a digest. HB_EMEMORY. */
HB_MUST_USE hb_status hb_digest_init(struct hb_digest *digest, uint32_t numerics_version);
void hb_digest_release(struct hb_digest *digest);

/* The next chunk; the order is the caller's promise. */
void hb_digest_add_chunk(struct hb_digest *digest, const char *name, uint64_t chunk_number,
                         uint64_t chunk_hash);

/* The digest of what was added so far (more may follow): 32 lower-case
 * hexadecimal digits, most significant first. */
void hb_digest_value(const struct hb_digest *digest, char text[HB_DIGEST_TEXT + 1]);

#endif
