/* Learns the merges of byte-pair encoding from counted words.
 *
 * Ids 0..255 are the bytes in the order of the byte-level alphabet. Then, until
 * there are `limit` tokens: of all pairs of neighbours the most frequent one is
 * merged everywhere; among equally frequent ones that with the lower left id,
 * then the lower right id (the order of Hugging Face's BpeTrainer). A pair that
 * spells a token that is there already becomes that token. Learning ends early
 * when no pair occurs twice.
 *
 * The result depends on the words and their counts only, not on their order.
 * Each occurrence of a pair is visited once when it is merged, so the work is
 * near the total length of the distinct words, however long single ones are. */
#ifndef HB_DATA_BPE_LEARN_H
#define HB_DATA_BPE_LEARN_H

#include "data/bpe.h"
#include "data/word_counts.h"

/* Zero-initialised is empty. */
struct hb_bpe_vocabulary {
    struct hb_byte_map tokens; /* the number of an entry is its id */
    struct hb_bpe_merge *merges;
    size_t merge_count, merge_capacity;
};

/* `limit`: 256 to HB_BPE_ID_LIMIT tokens. HB_EUNSUPPORTED beyond 2^31 - 2 bytes of
 * distinct words. On failure `out` may hold a part and is the caller's to release. */
HB_MUST_USE hb_status hb_bpe_learn(const struct hb_word_counts *words, int32_t limit,
                                   struct hb_bpe_vocabulary *out);
void hb_bpe_vocabulary_release(struct hb_bpe_vocabulary *v);

#endif
