/* Which documents are held out of training.
 *
 * A document is held out when the hash of its text (XXH3-64, seed HB_SPLIT_SEED)
 * lies in the lowest `fraction` of all hashes: the same text is always on the
 * same side, whatever lies beside it and in whatever order. Neither side is
 * left empty while there are two different documents: the lowest hash is always held
 * out, the highest never. A single document is cut near its end instead. */
#ifndef HB_DATA_SPLIT_H
#define HB_DATA_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define HB_SPLIT_SEED UINT64_C(0x68656c646f757431) /* "heldout1" */

uint64_t hb_split_hash(const void *text, size_t size);

/* What must be known of all documents. Start from {0}. */
struct hb_split_census {
    int64_t documents;
    uint64_t lowest, highest;
};
void hb_split_count(struct hb_split_census *census, uint64_t hash);

enum hb_split_method { HB_SPLIT_NONE, HB_SPLIT_HASH, HB_SPLIT_CUT };

struct hb_split {
    enum hb_split_method method;
    double fraction;
    uint64_t limit; /* HB_SPLIT_HASH: the highest hash that is held out */
};

/* `fraction` 0 holds nothing out; at most 0.5. HB_EARGUMENT: another fraction,
 * or several documents that are all the same text. */
HB_MUST_USE hb_status hb_split_init(const struct hb_split_census *census, double fraction,
                                    struct hb_split *split);

/* HB_SPLIT_HASH only. */
bool hb_split_holds_out(const struct hb_split *split, uint64_t hash);

/* HB_SPLIT_CUT only: where the held-out end of the single document begins. It is the
 * last start of a paragraph (behind a blank line) that leaves at least `fraction` and at
 * most twice that, else the last such start of a line, else of a character.
 * HB_EARGUMENT: a text of a single character. */
HB_MUST_USE hb_status hb_split_place(const struct hb_split *split, const unsigned char *text, size_t size,
                                     size_t *place);

#endif
