/* A map from byte strings to 32-bit values that owns the strings.
 *
 * Entries are numbered 0, 1, 2, ... in the order of their first sight, and
 * nothing depends on the hash but the speed. */
#ifndef HB_DATA_BYTE_MAP_H
#define HB_DATA_BYTE_MAP_H

#include <stdbool.h>

#include "data/buffer.h"

struct hb_byte_map_entry {
    size_t offset; /* of the string in `bytes` */
    uint32_t length;
    uint32_t value;
};

/* Zero-initialised is empty. */
struct hb_byte_map {
    struct hb_bytes bytes; /* all strings, end to end */
    struct hb_byte_map_entry *entries;
    size_t count, capacity;
    uint64_t *slots;   /* upper half of the hash, then entry + 1; 0 = free */
    size_t slot_count; /* a power of two, or 0 */
};

void hb_byte_map_release(struct hb_byte_map *map);

/* Number of the entry, -1 when there is none. */
int64_t hb_byte_map_find(const struct hb_byte_map *map, const void *text, size_t length);

/* Finds the string or adds it with `value`. `*entry` is its number, `*added`
 * says whether it is new. Strings of 4 GiB and more than 2^31 strings are refused. */
HB_MUST_USE hb_status hb_byte_map_add(struct hb_byte_map *map, const void *text, size_t length,
                                      uint32_t value, uint32_t *entry, bool *added);

/* The string of an entry; valid until the next add. */
static inline const unsigned char *hb_byte_map_text(const struct hb_byte_map *map, size_t entry)
{
    return map->bytes.data + map->entries[entry].offset;
}

#endif
