/* The fold tree: the one order in which values are added that come from
 * different microbatches (and chunks of a long sum).
 *
 * A node is a range [begin, end) of leaves 0 .. total - 1. The root is
 * [0, total); a node of more than one leaf splits at
 *     begin + the largest power of two below (end - begin),
 * so that a node's left child is always full and aligned to its size. Which
 * ranges are nodes is arithmetic on begin, end and total; nothing is stored.
 *
 * The value of a node is left + right, in this order, one rounding. Two
 * partial values may be added only if they are siblings. */
#ifndef HB_CORE_TREE_H
#define HB_CORE_TREE_H

#include <stdbool.h>
#include <stdint.h>

struct hb_node {
    int64_t begin, end;
};

/* Where the node splits; it has at least two leaves. */
int64_t hb_tree_split(struct hb_node node);

/* Is [begin, end) a node of the tree over `total` leaves? (Any three numbers are allowed.) */
bool hb_tree_is_node(int64_t begin, int64_t end, int64_t total);

/* Of a node that is not the root: is it the right child; its sibling; its parent. */
bool hb_tree_is_right(struct hb_node node, int64_t total);
struct hb_node hb_tree_sibling(struct hb_node node, int64_t total);
struct hb_node hb_tree_parent(struct hb_node node, int64_t total);

/* The value of the root over leaves[0 .. n - 1], which are not changed.
 * n = 0 gives +0, n = 1 the leaf itself. */
float hb_tree_sum_f32(const float *leaves, int64_t n);
double hb_tree_sum_f64(const double *leaves, int64_t n);

#endif
