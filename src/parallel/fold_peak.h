/* How many buffers the fold of a gradient needs, given the order in which its leaves come.
 *
 * The same rules as tape/gradients.h: leaf 0 lies in the root itself; a leaf that is added onto the sibling
 * waiting at its left needs no buffer (unless it carries flags of presence: experts, embedding); every other
 * one takes a buffer, and a merge gives that of its right side back. */
#ifndef HB_PARALLEL_FOLD_PEAK_H
#define HB_PARALLEL_FOLD_PEAK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* The most buffers beside the root at any time, for leaves[0 .. n - 1] (numbers of a tree over `total`, each
 * once) in this order. Ascending over a whole tree: at most log2(total), with flags at most log2(total)
 * + 1. */
HB_MUST_USE hb_status hb_fold_peak(const int64_t *leaves, int64_t n, int64_t total, bool flags,
                                   int64_t *peak);

/* The nodes that remain when these leaves are merged as far as they go: what a rank has to send. */
HB_MUST_USE hb_status hb_fold_remaining(const int64_t *leaves, int64_t n, int64_t total, int64_t *nodes);

#endif
