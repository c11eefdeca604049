#include "data/bpe.h"

#include <string.h>

#include "core/memory.h"

enum { SHORT = 96 }; /* pieces up to here: a scan for the best pair beats a heap */

static const uint32_t none = HB_BPE_MERGE_LIMIT; /* the rank of no merge, behind all others */
static const uint64_t free_pair = UINT64_MAX;

static size_t pair_home(uint64_t key, size_t mask)
{
    uint64_t mixed = key * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed >> 32) & mask;
}

static uint64_t pair_key(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 20 | right;
}

static uint32_t rank_of(const struct hb_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t key = pair_key(left, right);
    for (size_t at = pair_home(key, bpe->pair_mask);; at = (at + 1) & bpe->pair_mask) {
        uint64_t pair = bpe->pairs[at];
        if (pair >> 24 == key)
            return (uint32_t)pair & 0xffffffu;
        if (pair == free_pair)
            return none;
    }
}

static hb_status allocate(struct hb_bpe *bpe, size_t merge_count)
{
    size_t slots = 64;
    while (slots < 2 * merge_count)
        slots *= 2;
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, slots * sizeof *bpe->pairs, &memory));
    bpe->pairs = memory;
    bpe->pair_mask = slots - 1;
    memset(bpe->pairs, 0xff, slots * sizeof *bpe->pairs);
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, merge_count * sizeof *bpe->merges, &memory));
    bpe->merges = memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, 65536 * sizeof *bpe->byte_rank, &memory));
    bpe->byte_rank = memory;
    return HB_OK;
}

static hb_status add_pair(struct hb_bpe *bpe, const struct hb_bpe_merge *merge, uint32_t rank)
{
    if (merge->left >= HB_BPE_ID_LIMIT || merge->right >= HB_BPE_ID_LIMIT || merge->result >= HB_BPE_ID_LIMIT)
        return HB_FAIL(HB_EUNSUPPORTED, "merge %u: ids must be below %d", rank, HB_BPE_ID_LIMIT);
    uint64_t key = pair_key(merge->left, merge->right);
    size_t at = pair_home(key, bpe->pair_mask);
    for (; bpe->pairs[at] != free_pair; at = (at + 1) & bpe->pair_mask)
        if (bpe->pairs[at] >> 24 == key)
            return HB_FAIL(HB_EFORMAT, "merge %u repeats merge %u", rank,
                           (uint32_t)bpe->pairs[at] & 0xffffffu);
    bpe->pairs[at] = key << 24 | rank;
    bpe->merges[rank] = *merge;
    return HB_OK;
}

hb_status hb_bpe_init(struct hb_bpe *bpe, const uint32_t byte_id[256], const struct hb_bpe_merge *merges,
                      size_t merge_count)
{
    *bpe = (struct hb_bpe){.merge_count = merge_count};
    if (merge_count >= HB_BPE_MERGE_LIMIT)
        return HB_FAIL(HB_EUNSUPPORTED, "%zu merges: there must be fewer than %d", merge_count,
                       HB_BPE_MERGE_LIMIT);
    memcpy(bpe->byte_id, byte_id, sizeof bpe->byte_id);
    hb_status status;
    HB_TRY_CLEAN(allocate(bpe, merge_count));
    for (size_t i = 0; i < merge_count; i++)
        HB_TRY_CLEAN(add_pair(bpe, &merges[i], (uint32_t)i));
    for (int left = 0; left < 256; left++)
        for (int right = 0; right < 256; right++)
            bpe->byte_rank[left << 8 | right] = rank_of(bpe, byte_id[left], byte_id[right]);
    return HB_OK;
cleanup:
    hb_bpe_release(bpe);
    return status;
}

void hb_bpe_release(struct hb_bpe *bpe)
{
    hb_memory_free(bpe->pairs);
    hb_memory_free(bpe->merges);
    hb_memory_free(bpe->byte_rank);
    *bpe = (struct hb_bpe){0};
}

/* The symbols stand side by side; rank[i] is that of symbols i and i + 1. */
static hb_status encode_short(const struct hb_bpe *bpe, const unsigned char *piece, size_t n,
                              struct hb_ids *out, uint64_t *work)
{
    uint32_t id[SHORT], rank[SHORT];
    for (size_t i = 0; i < n; i++)
        id[i] = bpe->byte_id[piece[i]];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = bpe->byte_rank[(size_t)piece[i] << 8 | piece[i + 1]];
    uint64_t steps = n;
    while (n > 1) {
        uint32_t best = none;
        for (size_t i = 0; i + 1 < n; i++)
            best = rank[i] < best ? rank[i] : best;
        if (best == none)
            break;
        size_t at = 0;
        while (rank[at] != best)
            at++;
        n--;
        id[at] = bpe->merges[best].result;
        memmove(id + at + 1, id + at + 2, (n - at - 1) * sizeof *id);
        memmove(rank + at, rank + at + 1, (n - at) * sizeof *rank);
        if (at > 0)
            rank[at - 1] = rank_of(bpe, id[at - 1], id[at]);
        if (at + 1 < n)
            rank[at] = rank_of(bpe, id[at], id[at + 1]);
        steps += 2;
    }
    if (work)
        *work += steps;
    HB_TRY(hb_ids_reserve(out, n));
    for (size_t i = 0; i < n; i++)
        out->data[out->count++] = (int32_t)id[i];
    return HB_OK;
}

/* A piece as a linked list of symbols with a heap of the pairs that may merge:
 * rank << 32 | place of the left symbol, so that the order of the numbers is the
 * order of the merges. Entries grow stale when a neighbour changes; they are
 * recognised by their rank when they come up. */
struct list {
    uint64_t *heap; /* room 2n: every merge takes one entry out and puts at most two in */
    size_t heap_count;
    uint32_t *id, *rank;   /* [n]; rank of a symbol and its next one */
    uint32_t *prev, *next; /* [n]; n = none */
    uint64_t steps;
};

static void sift_down(struct list *l, size_t at)
{
    uint64_t moving = l->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= l->heap_count)
            break;
        if (child + 1 < l->heap_count && l->heap[child + 1] < l->heap[child])
            child++;
        if (moving <= l->heap[child])
            break;
        l->heap[at] = l->heap[child];
        at = child;
        l->steps++;
    }
    l->heap[at] = moving;
}

static uint64_t pop(struct list *l)
{
    uint64_t top = l->heap[0];
    l->heap[0] = l->heap[--l->heap_count];
    sift_down(l, 0);
    return top;
}

static void push(struct list *l, uint64_t entry)
{
    size_t at = l->heap_count++;
    while (at > 0 && entry < l->heap[(at - 1) / 2]) {
        l->heap[at] = l->heap[(at - 1) / 2];
        at = (at - 1) / 2;
        l->steps++;
    }
    l->heap[at] = entry;
}

static void update(const struct hb_bpe *bpe, struct list *l, uint32_t at, uint32_t n)
{
    l->rank[at] = l->next[at] < n ? rank_of(bpe, l->id[at], l->id[l->next[at]]) : none;
    l->steps++;
    if (l->rank[at] != none)
        push(l, (uint64_t)l->rank[at] << 32 | at);
}

static void link_bytes(const struct hb_bpe *bpe, struct list *l, const unsigned char *piece, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        l->id[i] = bpe->byte_id[piece[i]];
        l->rank[i] = i + 1 < n ? bpe->byte_rank[(size_t)piece[i] << 8 | piece[i + 1]] : none;
        l->prev[i] = i ? i - 1 : n;
        l->next[i] = i + 1;
        if (l->rank[i] != none)
            l->heap[l->heap_count++] = (uint64_t)l->rank[i] << 32 | i;
    }
    for (size_t i = l->heap_count / 2; i-- > 0;)
        sift_down(l, i);
}

static void merge_all(const struct hb_bpe *bpe, struct list *l, uint32_t n)
{
    while (l->heap_count) {
        uint64_t top = pop(l);
        uint32_t at = (uint32_t)top, rank = (uint32_t)(top >> 32);
        l->steps++;
        if (l->rank[at] != rank)
            continue;
        uint32_t gone = l->next[at];
        l->id[at] = bpe->merges[rank].result;
        l->next[at] = l->next[gone];
        if (l->next[at] < n)
            l->prev[l->next[at]] = at;
        l->rank[gone] = none; /* entries of the symbol that is no more are stale */
        update(bpe, l, at, n);
        if (l->prev[at] < n)
            update(bpe, l, l->prev[at], n);
    }
}

static hb_status encode_long(const struct hb_bpe *bpe, const unsigned char *piece, size_t n,
                             struct hb_ids *out, uint64_t *work)
{
    if (n >= INT32_MAX)
        return HB_FAIL(HB_EUNSUPPORTED, "%zu bytes without a place to cut; split the text", n);
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, n * (2 * sizeof(uint64_t) + 4 * sizeof(uint32_t)), &memory));
    struct list l = {.heap = memory};
    l.id = (uint32_t *)(l.heap + 2 * n);
    l.rank = l.id + n;
    l.prev = l.rank + n;
    l.next = l.prev + n;
    link_bytes(bpe, &l, piece, (uint32_t)n);
    merge_all(bpe, &l, (uint32_t)n);
    hb_status status = HB_OK;
    for (uint32_t i = 0; status == HB_OK && i < n; i = l.next[i])
        status = hb_ids_push(out, (int32_t)l.id[i]);
    if (work)
        *work += l.steps;
    hb_memory_free(memory);
    return status;
}

hb_status hb_bpe_encode(const struct hb_bpe *bpe, const unsigned char *piece, size_t n, struct hb_ids *out,
                        uint64_t *work)
{
    return n <= SHORT ? encode_short(bpe, piece, n, out, work) : encode_long(bpe, piece, n, out, work);
}
