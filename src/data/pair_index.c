#include "data/pair_index.h"

#include <string.h>

#include "core/memory.h"

enum { PER_BLOCK = 3 };
static const uint32_t none = UINT32_MAX;

void hb_pairs_release(struct hb_pairs *p)
{
    hb_memory_free(p->pairs);
    hb_memory_free(p->slots);
    hb_memory_free(p->blocks);
    hb_memory_free(p->heap);
    hb_memory_free(p->touched);
    *p = (struct hb_pairs){0};
}

static size_t home(const struct hb_pairs *p, uint32_t left, uint32_t right)
{
    uint64_t mixed = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed >> 32) & (p->slot_count - 1);
}

/* Slot of the pair, or the free one where it belongs. */
static size_t probe(const struct hb_pairs *p, uint32_t left, uint32_t right)
{
    size_t at = home(p, left, right);
    for (; p->slots[at]; at = (at + 1) & (p->slot_count - 1)) {
        const struct hb_pair *pair = &p->pairs[p->slots[at] - 1];
        if (pair->left == left && pair->right == right)
            break;
    }
    return at;
}

static hb_status widen(struct hb_pairs *p)
{
    size_t slot_count = p->slot_count ? 2 * p->slot_count : 1024;
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, slot_count * sizeof *p->slots, &memory));
    hb_memory_free(p->slots);
    p->slots = memory;
    p->slot_count = slot_count;
    memset(p->slots, 0, slot_count * sizeof *p->slots);
    for (size_t i = 0; i < p->count; i++)
        p->slots[probe(p, p->pairs[i].left, p->pairs[i].right)] = (uint32_t)i + 1;
    return HB_OK;
}

static hb_status find_or_add(struct hb_pairs *p, uint32_t left, uint32_t right, uint32_t *out)
{
    if (2 * (p->count + 1) > p->slot_count)
        HB_TRY(widen(p));
    size_t at = probe(p, left, right);
    if (!p->slots[at]) {
        if (p->count >= INT32_MAX)
            return HB_FAIL(HB_EUNSUPPORTED, "more than %d distinct pairs; train on less text", INT32_MAX);
        void *pairs = p->pairs;
        HB_TRY(hb_grow(&pairs, &p->capacity, p->count, p->count + 1, sizeof *p->pairs));
        p->pairs = pairs;
        p->pairs[p->count] = (struct hb_pair){.left = left, .right = right, .places = none};
        p->slots[at] = (uint32_t)++p->count;
    }
    *out = p->slots[at] - 1;
    return HB_OK;
}

static hb_status new_block(struct hb_pairs *p, uint32_t *out)
{
    if (p->free_block) {
        *out = p->free_block - 1;
        p->free_block = p->blocks[*out].next;
        return HB_OK;
    }
    if (p->block_count >= none)
        return HB_FAIL(HB_EUNSUPPORTED, "too many places of pairs; train on less text");
    void *blocks = p->blocks;
    HB_TRY(hb_grow(&blocks, &p->block_capacity, p->block_count, p->block_count + 1, sizeof *p->blocks));
    p->blocks = blocks;
    *out = (uint32_t)p->block_count++;
    return HB_OK;
}

static hb_status list_place(struct hb_pairs *p, uint32_t pair, uint32_t place)
{
    uint32_t first = p->pairs[pair].places;
    if (first != none)
        for (int i = 1; i < PER_BLOCK; i++)
            if (p->blocks[first].place[i] == none) {
                p->blocks[first].place[i] = place;
                return HB_OK;
            }
    uint32_t block = none;
    HB_TRY(new_block(p, &block));
    p->blocks[block] = (struct hb_pair_block){first, {place, none, none}};
    p->pairs[pair].places = block;
    return HB_OK;
}

hb_status hb_pairs_add(struct hb_pairs *p, uint32_t left, uint32_t right, int64_t weight, uint32_t place)
{
    uint32_t pair = none;
    HB_TRY(find_or_add(p, left, right, &pair));
    HB_TRY(list_place(p, pair, place));
    p->pairs[pair].count += weight;
    if (p->pairs[pair].touched)
        return HB_OK;
    void *touched = p->touched;
    HB_TRY(
        hb_grow(&touched, &p->touched_capacity, p->touched_count, p->touched_count + 1, sizeof *p->touched));
    p->touched = touched;
    p->touched[p->touched_count++] = pair;
    p->pairs[pair].touched = true;
    return HB_OK;
}

void hb_pairs_subtract(struct hb_pairs *p, uint32_t left, uint32_t right, int64_t weight)
{
    p->pairs[p->slots[probe(p, left, right)] - 1].count -= weight;
}

/* Does heap entry `a` come before `b`? */
static bool before(const struct hb_pairs *p, struct hb_pair_entry a, struct hb_pair_entry b)
{
    if (a.count != b.count)
        return a.count > b.count;
    const struct hb_pair *x = &p->pairs[a.pair], *y = &p->pairs[b.pair];
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static void push(struct hb_pairs *p, struct hb_pair_entry entry)
{
    size_t at = p->heap_count++;
    while (at > 0 && before(p, entry, p->heap[(at - 1) / 2])) {
        p->heap[at] = p->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    p->heap[at] = entry;
}

static struct hb_pair_entry pop(struct hb_pairs *p)
{
    struct hb_pair_entry top = p->heap[0], moving = p->heap[--p->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= p->heap_count)
            break;
        if (child + 1 < p->heap_count && before(p, p->heap[child + 1], p->heap[child]))
            child++;
        if (!before(p, p->heap[child], moving))
            break;
        p->heap[at] = p->heap[child];
        at = child;
    }
    p->heap[at] = moving;
    return top;
}

hb_status hb_pairs_settle(struct hb_pairs *p)
{
    void *heap = p->heap;
    HB_TRY(
        hb_grow(&heap, &p->heap_capacity, p->heap_count, p->heap_count + p->touched_count, sizeof *p->heap));
    p->heap = heap;
    for (size_t i = 0; i < p->touched_count; i++) {
        struct hb_pair *pair = &p->pairs[p->touched[i]];
        pair->touched = false;
        if (pair->count > 1)
            push(p, (struct hb_pair_entry){pair->count, p->touched[i]});
    }
    p->touched_count = 0;
    return HB_OK;
}

int64_t hb_pairs_top(struct hb_pairs *p)
{
    while (p->heap_count) {
        struct hb_pair_entry top = pop(p);
        int64_t count = p->pairs[top.pair].count;
        if (top.count == count)
            return top.pair;
        if (count > 1) /* fewer than when it was put there (more would have put it there again) */
            push(p, (struct hb_pair_entry){count, top.pair});
    }
    return -1;
}

hb_status hb_pairs_take(struct hb_pairs *p, uint32_t pair, uint32_t **places, size_t *count, size_t *capacity)
{
    uint32_t block = p->pairs[pair].places;
    while (block != none) {
        void *grown = *places;
        HB_TRY(hb_grow(&grown, capacity, *count, *count + PER_BLOCK, sizeof **places));
        *places = grown;
        struct hb_pair_block *b = &p->blocks[block];
        for (int i = 0; i < PER_BLOCK; i++)
            if (b->place[i] != none)
                (*places)[(*count)++] = b->place[i];
        uint32_t next = b->next;
        b->next = p->free_block;
        p->free_block = block + 1;
        block = next;
    }
    p->pairs[pair].places = none;
    p->pairs[pair].count = 0;
    return HB_OK;
}
