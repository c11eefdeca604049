/* What a manifest says about a file: its size and the hash of its bytes. */
#ifndef HB_CORE_FILE_RECEIPT_H
#define HB_CORE_FILE_RECEIPT_H

#include <stdint.h>

#include "core/status.h"

struct hb_file_receipt {
    uint64_t bytes;
    char hash[33]; /* XXH3, 128 bits, 32 hexadecimal digits, as `xxhsum -H2` prints it */
};

struct XXH3_state_s;

/* The receipt of bytes hashed elsewhere. */
struct hb_file_receipt hb_file_receipt_of(uint64_t bytes, const struct XXH3_state_s *state);

/* Reads the file in pieces. HB_EIO, HB_EMEMORY. */
HB_MUST_USE hb_status hb_file_receipt(const char *path, struct hb_file_receipt *out);

#endif
