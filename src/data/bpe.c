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

/* A piece as a linked list of symbols, and above the ranks of its pairs a tree of minima: every number of
 * a level is the lowest of FAN numbers of the level below, so the way down to the leftmost pair of the lowest
 * rank is short. Merges of one rank come from left to right, that is from memory that is near: a heap
 * would spread the same pairs over all of its memory. */
enum { FAN = 16, LEVELS = 9 };

struct symbol {
    uint32_t id, prev, next; /* n = none */
};

struct list {
    int32_t *rank[LEVELS]; /* [0]: of a symbol and its next one; levels end in `none` up to whole FANs */
    int top;               /* the level that is one number */
    struct symbol *symbol; /* [n] */
    uint64_t steps;
};

static int32_t lowest(const int32_t *rank)
{
    int32_t low[4];
    for (int i = 0; i < 4; i++)
        low[i] = rank[i];
    for (int i = 4; i < FAN; i++)
        low[i % 4] = rank[i] < low[i % 4] ? rank[i] : low[i % 4];
    low[0] = low[1] < low[0] ? low[1] : low[0];
    low[2] = low[3] < low[2] ? low[3] : low[2];
    return low[2] < low[0] ? low[2] : low[0];
}

static void set_rank(struct list *l, uint32_t at, uint32_t rank)
{
    l->rank[0][at] = (int32_t)rank;
    for (int k = 0; k < l->top; k++) {
        at /= FAN;
        int32_t low = lowest(l->rank[k] + (size_t)at * FAN);
        l->steps++;
        if (l->rank[k + 1][at] == low)
            return;
        l->rank[k + 1][at] = low;
    }
}

/* The leftmost symbol of the lowest rank. */
static uint32_t first_lowest(const struct list *l)
{
    size_t at = 0;
    for (int k = l->top; k-- > 0;) {
        int32_t low = l->rank[k + 1][at];
        for (at *= FAN; l->rank[k][at] != low;)
            at++;
    }
    return (uint32_t)at;
}

static void update(const struct hb_bpe *bpe, struct list *l, uint32_t at, uint32_t n)
{
    uint32_t next = l->symbol[at].next;
    set_rank(l, at, next < n ? rank_of(bpe, l->symbol[at].id, l->symbol[next].id) : none);
}

/* Numbers of a level above `count` of them, in whole FANs; the top is one number. */
static size_t level_size(size_t count)
{
    size_t above = (count + FAN - 1) / FAN;
    return above == 1 ? 1 : (above + FAN - 1) / FAN * FAN;
}

static void link_bytes(const struct hb_bpe *bpe, struct list *l, const unsigned char *piece, uint32_t n)
{
    size_t count = ((size_t)n + FAN - 1) / FAN * FAN;
    for (uint32_t i = 0; i < n; i++) {
        l->symbol[i] = (struct symbol){bpe->byte_id[piece[i]], i ? i - 1 : n, i + 1};
        l->rank[0][i] =
            (int32_t)(i + 1 < n ? bpe->byte_rank[(size_t)piece[i] << 8 | piece[i + 1]] : none);
    }
    for (size_t i = n; i < count; i++)
        l->rank[0][i] = (int32_t)none;
    for (int k = 0; k < l->top; k++) {
        size_t above = level_size(count);
        for (size_t i = 0; i < above; i++)
            l->rank[k + 1][i] = i * FAN < count ? lowest(l->rank[k] + i * FAN) : (int32_t)none;
        count = above;
    }
}

static void merge_all(const struct hb_bpe *bpe, struct list *l, uint32_t n)
{
    while (l->rank[l->top][0] != (int32_t)none) {
        uint32_t at = first_lowest(l);
        struct symbol *symbol = &l->symbol[at];
        uint32_t gone = symbol->next;
        symbol->id = bpe->merges[l->rank[l->top][0]].result;
        symbol->next = l->symbol[gone].next;
        if (symbol->next < n)
            l->symbol[symbol->next].prev = at;
        l->steps++;
        set_rank(l, gone, none);
        update(bpe, l, at, n);
        if (symbol->prev < n)
            update(bpe, l, symbol->prev, n);
    }
}

static hb_status encode_long(const struct hb_bpe *bpe, const unsigned char *piece, size_t n,
                             struct hb_ids *out, uint64_t *work)
{
    if (n >= INT32_MAX)
        return HB_FAIL(HB_EUNSUPPORTED, "%zu bytes without a place to cut; split the text", n);
    struct list l = {0};
    size_t size[LEVELS] = {(n + FAN - 1) / FAN * FAN}, total = size[0];
    for (; size[l.top] > 1; l.top++)
        total += size[l.top + 1] = level_size(size[l.top]);
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, total * sizeof *l.rank[0] + n * sizeof *l.symbol, &memory));
    l.symbol = memory;
    int32_t *rank = (int32_t *)(l.symbol + n);
    for (int k = 0; k <= l.top; rank += size[k++])
        l.rank[k] = rank;
    link_bytes(bpe, &l, piece, (uint32_t)n);
    merge_all(bpe, &l, (uint32_t)n);
    hb_status status = HB_OK;
    for (uint32_t i = 0; status == HB_OK && i < n; i = l.symbol[i].next)
        status = hb_ids_push(out, (int32_t)l.symbol[i].id);
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
