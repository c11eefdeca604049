/* Byte-pair encoding of one piece of text (Sennrich et al. 2016, on bytes as in GPT-2).
 *
 * A piece starts as its bytes. As long as some neighbours (left, right) are in
 * the list of merges, the pair that stands first in the list is merged where it
 * stands leftmost. Time is O(n log n) in the length of the piece. */
#ifndef HB_DATA_BPE_H
#define HB_DATA_BPE_H

#include "data/buffer.h"

/* Ids stay below 2^20 and merges below 2^24 - 1, so that a pair and its rank
 * share one 64-bit word of the table. */
#define HB_BPE_ID_LIMIT (1 << 20)
#define HB_BPE_MERGE_LIMIT ((1 << 24) - 1)

struct hb_bpe_merge {
    uint32_t left, right, result;
};

struct hb_bpe {
    uint32_t byte_id[256];
    uint32_t *byte_rank; /* [256][256]: rank of two bytes, the pairs that are asked for most */
    uint64_t *pairs;     /* left, right, rank; all ones = free */
    size_t pair_mask;
    struct hb_bpe_merge *merges; /* [merge_count], by rank */
    size_t merge_count;
};

/* Copies `merges`. HB_EFORMAT for a pair given twice, HB_EUNSUPPORTED beyond the
 * limits. Zero-initialised `bpe` may be released, too. */
HB_MUST_USE hb_status hb_bpe_init(struct hb_bpe *bpe, const uint32_t byte_id[256],
                                  const struct hb_bpe_merge *merges, size_t merge_count);
void hb_bpe_release(struct hb_bpe *bpe);

/* Appends the ids of the piece. `*work`, when not NULL, grows by the number of
 * merges and steps among them (for tests: it must stay near n). */
HB_MUST_USE hb_status hb_bpe_encode(const struct hb_bpe *bpe, const unsigned char *piece, size_t n,
                                    struct hb_ids *out, uint64_t *work);

#endif
