/* Added tokens: strings that are cut out of the text whole, before byte-pair
 * encoding sees it. Where several match, the leftmost does, and of those the longest. */
#ifndef HB_DATA_ADDED_TOKENS_H
#define HB_DATA_ADDED_TOKENS_H

#include "data/byte_map.h"

/* Zero-initialised matches nothing. */
struct hb_added_tokens {
    struct hb_byte_map map; /* content -> id << 1 | special */
    bool first[256];        /* bytes that some content starts with */
    struct hb_ids lengths;  /* of the contents, each once, the longest first */
};

struct hb_added_match {
    size_t begin, end;
    int32_t id;
};

/* HB_EFORMAT when the content is empty or there already. `id` < 2^30. */
HB_MUST_USE hb_status hb_added_tokens_add(struct hb_added_tokens *set, const void *content, size_t n,
                                          int32_t id, bool special);
void hb_added_tokens_release(struct hb_added_tokens *set);

/* The first match in text[from, n). A special token found while `special` is
 * false is passed over whole: it stays text, and so does what overlaps it. */
bool hb_added_tokens_next(const struct hb_added_tokens *set, const unsigned char *text, size_t n, size_t from,
                          bool special, struct hb_added_match *match);

#endif
