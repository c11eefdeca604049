#include "data/bpe_learn.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "data/byte_level.h"
#include "data/pair_index.h"

/* All words stand in one row of cells, a cell for each byte, with a separator
 * before, between and behind them. A token covers as many cells as it has bytes:
 * its id stands in the first, and, if there are more, its length with `back` set
 * in the last. So both neighbours are found without links, in 4 bytes a cell. */
static const uint32_t separator = UINT32_MAX;
static const uint32_t back = 1u << 31;
static const uint32_t inside = (1u << 31) - 1; /* was the first cell of a token that is now part of one */

struct row {
    uint32_t *cells;
    uint32_t *word;        /* [cell]: the word it belongs to */
    const int64_t *counts; /* [word] */
    const struct hb_byte_map *tokens;
    struct hb_pairs pairs;
    uint32_t *places; /* of the pair being merged */
    size_t place_count, place_capacity;
};

static uint32_t length_of(const struct row *r, uint32_t id)
{
    return r->tokens->entries[id].length;
}

static hb_status lay_out(struct row *r, const struct hb_word_counts *words)
{
    uint32_t id_of_byte[256];
    for (int rank = 0; rank < 256; rank++)
        id_of_byte[hb_byte_level_sorted(rank)] = (uint32_t)rank;
    size_t cells = words->words.bytes.count + words->words.count + 1;
    if (cells >= inside)
        return HB_FAIL(HB_EUNSUPPORTED, "%zu bytes of distinct words; train on less text",
                       words->words.bytes.count);
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, cells * sizeof *r->cells, &memory));
    r->cells = memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, cells * sizeof *r->word, &memory));
    r->word = memory;
    uint32_t at = 0;
    r->cells[at++] = separator;
    for (size_t w = 0; w < words->words.count; w++) {
        const unsigned char *text = hb_byte_map_text(&words->words, w);
        for (uint32_t i = 0; i < words->words.entries[w].length; i++, at++) {
            r->cells[at] = id_of_byte[text[i]];
            r->word[at] = (uint32_t)w;
            if (i > 0)
                HB_TRY(hb_pairs_add(&r->pairs, r->cells[at - 1], r->cells[at], words->counts[w], at - 1));
        }
        r->cells[at++] = separator;
    }
    return hb_pairs_settle(&r->pairs);
}

/* Merges left (at `at`) with right into `result` if both are still there. */
static hb_status merge_at(struct row *r, uint32_t at, const struct hb_bpe_merge *m)
{
    uint32_t middle = at + length_of(r, m->left);
    if (r->cells[at] != m->left || r->cells[middle] != m->right)
        return HB_OK;
    uint32_t end = middle + length_of(r, m->right);
    int64_t weight = r->counts[r->word[at]];
    r->cells[at] = m->result;
    r->cells[middle] = inside;
    r->cells[end - 1] = back | (end - at);
    if (r->cells[at - 1] != separator) {
        uint32_t last = r->cells[at - 1];
        uint32_t start = last & back ? at - (last & ~back) : at - 1;
        hb_pairs_subtract(&r->pairs, r->cells[start], m->left, weight);
        HB_TRY(hb_pairs_add(&r->pairs, r->cells[start], m->result, weight, start));
    }
    if (r->cells[end] != separator) {
        hb_pairs_subtract(&r->pairs, m->right, r->cells[end], weight);
        HB_TRY(hb_pairs_add(&r->pairs, m->result, r->cells[end], weight, at));
    }
    return HB_OK;
}

static int compare_places(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static hb_status merge_everywhere(struct row *r, uint32_t pair, const struct hb_bpe_merge *m)
{
    r->place_count = 0;
    HB_TRY(hb_pairs_take(&r->pairs, pair, &r->places, &r->place_count, &r->place_capacity));
    /* Of "aaa" the first two letters are merged: only there the order matters. */
    if (m->left == m->right)
        qsort(r->places, r->place_count, sizeof *r->places, compare_places);
    for (size_t i = 0; i < r->place_count; i++)
        HB_TRY(merge_at(r, r->places[i], m));
    r->pairs.pairs[pair].count = 0; /* runs of one token have counted it up and down meanwhile */
    r->pairs.pairs[pair].merged = true;
    return hb_pairs_settle(&r->pairs);
}

/* Names the token that the pair makes, old or new, and lists the merge (once:
 * a pair comes up again when another merge makes one of its sides anew). */
static hb_status record_merge(struct hb_bpe_vocabulary *v, const struct hb_pair *pair,
                              struct hb_bytes *joined, struct hb_bpe_merge *m)
{
    joined->count = 0;
    HB_TRY(hb_bytes_append(joined, hb_byte_map_text(&v->tokens, pair->left),
                           v->tokens.entries[pair->left].length));
    HB_TRY(hb_bytes_append(joined, hb_byte_map_text(&v->tokens, pair->right),
                           v->tokens.entries[pair->right].length));
    bool added;
    *m = (struct hb_bpe_merge){.left = pair->left, .right = pair->right};
    HB_TRY(hb_byte_map_add(&v->tokens, joined->data, joined->count, 0, &m->result, &added));
    if (pair->merged)
        return HB_OK;
    void *merges = v->merges;
    HB_TRY(hb_grow(&merges, &v->merge_capacity, v->merge_count, v->merge_count + 1, sizeof *v->merges));
    v->merges = merges;
    v->merges[v->merge_count++] = *m;
    return HB_OK;
}

static hb_status learn(struct row *r, int32_t limit, struct hb_bpe_vocabulary *v)
{
    struct hb_bytes joined = {0};
    hb_status status = HB_OK;
    while (v->tokens.count < (size_t)limit) {
        int64_t top = hb_pairs_top(&r->pairs);
        if (top < 0)
            break;
        struct hb_bpe_merge m;
        HB_TRY_CLEAN(record_merge(v, &r->pairs.pairs[top], &joined, &m));
        HB_TRY_CLEAN(merge_everywhere(r, (uint32_t)top, &m));
    }
cleanup:
    hb_bytes_release(&joined);
    return status;
}

hb_status hb_bpe_learn(const struct hb_word_counts *words, int32_t limit, struct hb_bpe_vocabulary *out)
{
    if (limit < 256 || limit > HB_BPE_ID_LIMIT)
        return HB_FAIL(HB_EARGUMENT, "%d tokens: must be 256 (the bytes) to %d", limit, HB_BPE_ID_LIMIT);
    for (int rank = 0; rank < 256; rank++) {
        unsigned char byte = hb_byte_level_sorted(rank);
        uint32_t entry;
        bool added;
        HB_TRY(hb_byte_map_add(&out->tokens, &byte, 1, 0, &entry, &added));
    }
    struct row r = {.counts = words->counts, .tokens = &out->tokens};
    hb_status status = lay_out(&r, words);
    if (status == HB_OK)
        status = learn(&r, limit, out);
    hb_memory_free(r.cells);
    hb_memory_free(r.word);
    hb_memory_free(r.places);
    hb_pairs_release(&r.pairs);
    return status;
}

void hb_bpe_vocabulary_release(struct hb_bpe_vocabulary *v)
{
    hb_byte_map_release(&v->tokens);
    hb_memory_free(v->merges);
    *v = (struct hb_bpe_vocabulary){0};
}
