/* The bytes of a file, decompressed on the way: NAME.gz by zlib, NAME.zst by
 * libzstd, everything else as it is. Memory is a few fixed buffers whatever
 * the file claims to hold, so a small file that unpacks to a huge one is only
 * a long read. */
#ifndef HB_DATA_BYTE_READER_H
#define HB_DATA_BYTE_READER_H

#include <stddef.h>

#include "core/status.h"

struct hb_byte_reader;

HB_MUST_USE hb_status hb_byte_reader_create(const char *path, struct hb_byte_reader **out);

/* Up to `room` > 0 bytes into `to`; `*count` == 0 means the end. HB_EFORMAT
 * names a file that is damaged or ends in the middle of its compressed data. */
HB_MUST_USE hb_status hb_byte_reader_read(struct hb_byte_reader *reader, char *to, size_t room,
                                          size_t *count);

/* NULL is allowed. */
void hb_byte_reader_destroy(struct hb_byte_reader *reader);

#endif
