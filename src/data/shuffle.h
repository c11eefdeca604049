/* A permutation of 0 .. n-1 for every (seed, epoch), of which single entries
 * can be asked: no table, no state.
 *
 * A Feistel network (Luby and Rackoff 1988) of 8 rounds over 2h bits, 2^(2h)
 * being the smallest such power that is not below n. A round takes (left,
 * right) to (right, left ^ F(right)); F(right) is the low h bits of word 0 in
 * block `right` of the random stream (seed, HB_PURPOSE_SHUFFLE, step = epoch,
 * subject = round), core/philox.h. Results of n and more are fed back until one
 * is below n (cycle walking: under 4 passes on average), which keeps it a
 * permutation. */
#ifndef HB_DATA_SHUFFLE_H
#define HB_DATA_SHUFFLE_H

#include <stdint.h>

/* The entry at `position` < n. */
uint64_t hb_shuffle(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position);

#endif
