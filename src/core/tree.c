#include "core/tree.h"

/* The smallest power of two >= n, for n >= 1 (up to 2^63: hence unsigned). */
static uint64_t ceil_power(int64_t n)
{
    return n == 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll((unsigned long long)n - 1));
}

static int64_t lowest_bit(int64_t n)
{
    return n & -n;
}

int64_t hb_tree_split(struct hb_node node)
{
    return node.begin + (int64_t)(ceil_power(node.end - node.begin) / 2);
}

/* Nodes that end before `total` are full: a power of two, aligned to itself.
 * Those that end there may be shorter than the power to which they are aligned. */
bool hb_tree_is_node(int64_t begin, int64_t end, int64_t total)
{
    if (begin < 0 || begin >= end || end > total)
        return false;
    uint64_t size = ceil_power(end - begin);
    return (uint64_t)begin % size == 0 && ((uint64_t)(end - begin) == size || end == total);
}

bool hb_tree_is_right(struct hb_node node, int64_t total)
{
    return node.end == total || (node.begin & (node.end - node.begin)) != 0;
}

struct hb_node hb_tree_sibling(struct hb_node node, int64_t total)
{
    if (hb_tree_is_right(node, total))
        return (struct hb_node){node.begin - lowest_bit(node.begin), node.begin};
    int64_t size = node.end - node.begin, rest = total - node.end;
    return (struct hb_node){node.end, node.end + (rest < size ? rest : size)};
}

struct hb_node hb_tree_parent(struct hb_node node, int64_t total)
{
    struct hb_node other = hb_tree_sibling(node, total);
    return hb_tree_is_right(node, total) ? (struct hb_node){other.begin, node.end}
                                         : (struct hb_node){node.begin, other.end};
}

/* Leaves ascend, so the pending partials are full nodes of falling size, one for
 * each bit of the number of leaves seen. A new leaf closes as many of them as its
 * number has trailing one bits; at the end the short nodes at the right edge are
 * closed from the right. */
float hb_tree_sum_f32(const float *leaves, int64_t n)
{
    float pending[64];
    int depth = 0;
    for (int64_t i = 0; i < n; i++) {
        float value = leaves[i];
        for (int64_t bits = i; bits & 1; bits >>= 1)
            value = pending[--depth] + value;
        pending[depth++] = value;
    }
    if (depth == 0)
        return 0.0f;
    float sum = pending[--depth];
    while (depth > 0)
        sum = pending[--depth] + sum;
    return sum;
}

double hb_tree_sum_f64(const double *leaves, int64_t n)
{
    double pending[64];
    int depth = 0;
    for (int64_t i = 0; i < n; i++) {
        double value = leaves[i];
        for (int64_t bits = i; bits & 1; bits >>= 1)
            value = pending[--depth] + value;
        pending[depth++] = value;
    }
    if (depth == 0)
        return 0.0;
    double sum = pending[--depth];
    while (depth > 0)
        sum = pending[--depth] + sum;
    return sum;
}
