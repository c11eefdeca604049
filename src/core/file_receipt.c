#include "core/file_receipt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/file.h"

enum { PIECE = 1 << 18 };

struct hb_file_receipt hb_file_receipt_of(uint64_t bytes, const struct XXH3_state_s *state)
{
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    struct hb_file_receipt receipt = {.bytes = bytes};
    snprintf(receipt.hash, sizeof receipt.hash, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
    return receipt;
}

static hb_status hash_file(const char *path, FILE *file, XXH3_state_t *state, char *piece,
                           struct hb_file_receipt *out)
{
    if (!state || !piece || XXH3_128bits_reset(state) != XXH_OK)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot hash %s", path);
    uint64_t bytes = 0;
    size_t n;
    while ((n = fread(piece, 1, PIECE, file)) > 0) {
        bytes += n;
        XXH3_128bits_update(state, piece, n);
    }
    if (ferror(file))
        return hb_file_fail("read", path);
    *out = hb_file_receipt_of(bytes, state);
    return HB_OK;
}

hb_status hb_file_receipt(const char *path, struct hb_file_receipt *out)
{
    FILE *file = fopen(path, "rbe");
    if (!file)
        return hb_file_fail("open", path);
    XXH3_state_t *state = XXH3_createState();
    char *piece = malloc(PIECE);
    hb_status status = hash_file(path, file, state, piece, out);
    free(piece);
    XXH3_freeState(state);
    fclose(file);
    return status;
}
