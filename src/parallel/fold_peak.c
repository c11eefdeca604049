#include "parallel/fold_peak.h"

#include <stdlib.h>

#include "core/tree.h"

struct fold {
    struct hb_node *nodes;
    int64_t count, total;
};

static int64_t find(const struct fold *f, struct hb_node node)
{
    for (int64_t i = 0; i < f->count; i++)
        if (f->nodes[i].begin == node.begin && f->nodes[i].end == node.end)
            return i;
    return -1;
}

static int64_t find_sibling(const struct fold *f, struct hb_node node)
{
    if (node.begin == 0 && node.end == f->total)
        return -1;
    return find(f, hb_tree_sibling(node, f->total));
}

/* Buffers: of every node but the one that begins at 0, which lies in the root. */
static int64_t buffers(const struct fold *f)
{
    int64_t n = 0;
    for (int64_t i = 0; i < f->count; i++)
        n += f->nodes[i].begin != 0;
    return n;
}

static void merge_all(struct fold *f, struct hb_node node)
{
    for (int64_t sibling; (sibling = find_sibling(f, node)) >= 0;) {
        f->nodes[sibling] = f->nodes[--f->count];
        int64_t self = find(f, node);
        node = hb_tree_parent(node, f->total);
        f->nodes[self] = node;
    }
}

static hb_status fold(const int64_t *leaves, int64_t n, int64_t total, bool flags, int64_t *peak,
                      int64_t *remaining)
{
    struct fold f = {.total = total};
    f.nodes = malloc((size_t)(n + 1) * sizeof *f.nodes);
    if (!f.nodes)
        return HB_FAIL(HB_EMEMORY, "out of memory for counting a fold");
    *peak = 0;
    for (int64_t i = 0; i < n; i++) {
        struct hb_node leaf = {leaves[i], leaves[i] + 1};
        int64_t sibling = find_sibling(&f, leaf);
        bool in_place = !flags && sibling >= 0 && f.nodes[sibling].end == leaf.begin;
        int64_t now = buffers(&f) + (leaf.begin != 0 && !in_place);
        if (now > *peak)
            *peak = now;
        f.nodes[f.count++] = leaf;
        merge_all(&f, leaf);
    }
    *remaining = f.count;
    free(f.nodes);
    return HB_OK;
}

hb_status hb_fold_peak(const int64_t *leaves, int64_t n, int64_t total, bool flags, int64_t *peak)
{
    int64_t remaining;
    return fold(leaves, n, total, flags, peak, &remaining);
}

hb_status hb_fold_remaining(const int64_t *leaves, int64_t n, int64_t total, int64_t *nodes)
{
    int64_t peak;
    return fold(leaves, n, total, false, &peak, nodes);
}
