/* Trains a byte-level BPE tokenizer with the normalizer and the pattern of Qwen3. */
#ifndef HB_DATA_BPE_TRAIN_H
#define HB_DATA_BPE_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Gives the next text, valid until the call after; `*end` when there is none left. */
struct hb_bpe_texts {
    hb_status (*next)(void *context, const unsigned char **text, size_t *n, bool *end);
    void *context;
};

struct hb_bpe_train_report {
    int64_t texts, bytes, words, distinct_words;
    int32_t vocabulary; /* tokens, specials included; fewer than asked for when the text has no more pairs */
};

/* Reads all texts once and writes FOLDER/tokenizer.json and
 * FOLDER/tokenizer_config.json. `vocab_size` counts the 256 bytes and the
 * specials (which come last). The result is a function of the texts' pieces and
 * their counts: order and division of the texts do not enter it, unless a cut
 * divides a piece. HB_EARGUMENT: a vocabulary too small or too large, a special
 * token that is empty, not UTF-8 or given twice. HB_EFORMAT: a text that is not UTF-8. */
HB_MUST_USE hb_status hb_bpe_train(const struct hb_bpe_texts *texts, int32_t vocab_size,
                                   const char *const *specials, size_t special_count, const char *folder,
                                   struct hb_bpe_train_report *report);

#endif
