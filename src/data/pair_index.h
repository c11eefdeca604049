/* The pairs of neighbouring tokens while merges are learned: how often each
 * occurs, where, and which is the most frequent. */
#ifndef HB_DATA_PAIR_INDEX_H
#define HB_DATA_PAIR_INDEX_H

#include <stdbool.h>

#include "data/buffer.h"

struct hb_pair {
    int64_t count;
    uint32_t left, right;
    uint32_t places; /* first block of the list of places, UINT32_MAX = none */
    bool touched;    /* counted up since the last hb_pairs_settle */
    bool merged;
};

/* A few places of one pair: lists in blocks, since most pairs occur once or twice. */
struct hb_pair_block {
    uint32_t next;
    uint32_t place[3]; /* UINT32_MAX = unused */
};

struct hb_pair_entry {
    int64_t count;
    uint32_t pair;
};

/* Zero-initialised is empty. */
struct hb_pairs {
    struct hb_pair *pairs;
    size_t count, capacity;
    uint32_t *slots; /* pair + 1, 0 = free */
    size_t slot_count;
    struct hb_pair_block *blocks;
    size_t block_count, block_capacity;
    uint32_t free_block;        /* list of blocks to use again, +1; 0 = none */
    struct hb_pair_entry *heap; /* counts as they were; checked against the pair when they come up */
    size_t heap_count, heap_capacity;
    uint32_t *touched;
    size_t touched_count, touched_capacity;
};

void hb_pairs_release(struct hb_pairs *p);

/* Counts `weight` more occurrences of the pair, at `place`. */
HB_MUST_USE hb_status hb_pairs_add(struct hb_pairs *p, uint32_t left, uint32_t right, int64_t weight,
                                   uint32_t place);
/* Counts `weight` fewer. The place stays listed: the reader of places sees that
 * the pair is not there any more. The pair must be known. */
void hb_pairs_subtract(struct hb_pairs *p, uint32_t left, uint32_t right, int64_t weight);

/* Puts what was added since the last call in its place for hb_pairs_top. */
HB_MUST_USE hb_status hb_pairs_settle(struct hb_pairs *p);

/* Takes out the pair with the highest count, then the lowest left, then the
 * lowest right id; -1 when none is left that occurs at least twice. */
int64_t hb_pairs_top(struct hb_pairs *p);

/* Takes all places of a pair out of the index and appends them to `*places`,
 * in no particular order; its count becomes 0. */
HB_MUST_USE hb_status hb_pairs_take(struct hb_pairs *p, uint32_t pair, uint32_t **places, size_t *count,
                                    size_t *capacity);

#endif
