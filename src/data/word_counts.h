/* The distinct pieces of a body of text and how often each occurs: all that
 * training a tokenizer needs to know of it. Memory is bounded by the distinct
 * pieces, not by the text. */
#ifndef HB_DATA_WORD_COUNTS_H
#define HB_DATA_WORD_COUNTS_H

#include "data/byte_map.h"
#include "data/pretokenize.h"

/* Zero-initialised is empty. */
struct hb_word_counts {
    struct hb_byte_map words;
    int64_t *counts; /* [words.count] */
    size_t capacity;
    struct hb_bytes normal; /* the text being counted, normalised */
};

/* Normalises the text (NFC), cuts it, and counts the pieces. HB_EFORMAT names
 * the byte where it is not valid UTF-8; nothing is counted then. */
HB_MUST_USE hb_status hb_word_counts_add(struct hb_word_counts *w, struct hb_pretokenizer *pretokenizer,
                                         const void *text, size_t n);
void hb_word_counts_release(struct hb_word_counts *w);

#endif
