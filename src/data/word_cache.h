/* Remembers the ids of short pieces: most of a text is the same few thousand
 * words, and a look-up costs a tenth of encoding one.
 *
 * A fixed table with one 64-byte line per slot; a new piece replaces the old one
 * of its slot. It changes nothing but the speed. */
#ifndef HB_DATA_WORD_CACHE_H
#define HB_DATA_WORD_CACHE_H

#include <stdbool.h>

#include "data/buffer.h"

#define HB_WORD_CACHE_BYTES 30 /* of a piece, at most */
#define HB_WORD_CACHE_IDS 8

struct hb_word_cache_line {
    int32_t ids[HB_WORD_CACHE_IDS];
    uint8_t id_count; /* 0 = free */
    uint8_t length;
    unsigned char piece[HB_WORD_CACHE_BYTES];
};

struct hb_word_cache {
    struct hb_word_cache_line *lines;
};

HB_MUST_USE hb_status hb_word_cache_init(struct hb_word_cache *cache);
void hb_word_cache_release(struct hb_word_cache *cache);

/* The line where the piece is or belongs; `*hit` says which. NULL when the
 * piece is too long to be kept. */
struct hb_word_cache_line *hb_word_cache_find(struct hb_word_cache *cache, const unsigned char *piece,
                                              size_t n, bool *hit);

/* Keeps the piece in the line that was found for it, unless it has too many ids. */
void hb_word_cache_put(struct hb_word_cache_line *line, const unsigned char *piece, size_t n,
                       const int32_t *ids, size_t id_count);

#endif
