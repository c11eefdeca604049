#include "data/added_tokens.h"

#include <string.h>

static hb_status note_length(struct hb_added_tokens *set, size_t n)
{
    size_t at = 0;
    while (at < set->lengths.count && (size_t)set->lengths.data[at] > n)
        at++;
    if (at < set->lengths.count && (size_t)set->lengths.data[at] == n)
        return HB_OK;
    HB_TRY(hb_ids_reserve(&set->lengths, 1));
    int32_t *lengths = set->lengths.data;
    memmove(lengths + at + 1, lengths + at, (set->lengths.count - at) * sizeof *lengths);
    lengths[at] = (int32_t)n;
    set->lengths.count++;
    return HB_OK;
}

hb_status hb_added_tokens_add(struct hb_added_tokens *set, const void *content, size_t n, int32_t id,
                              bool special)
{
    if (n == 0 || n > INT32_MAX)
        return HB_FAIL(HB_EFORMAT, "added token %d is empty or too long", id);
    uint32_t entry;
    bool added;
    HB_TRY(hb_byte_map_add(&set->map, content, n, (uint32_t)id << 1 | special, &entry, &added));
    if (!added)
        return HB_FAIL(HB_EFORMAT, "added token '%.*s' is given twice", n < 100 ? (int)n : 100,
                       (const char *)content);
    set->first[*(const unsigned char *)content] = true;
    return note_length(set, n);
}

void hb_added_tokens_release(struct hb_added_tokens *set)
{
    hb_byte_map_release(&set->map);
    hb_ids_release(&set->lengths);
    *set = (struct hb_added_tokens){0};
}

/* The longest token at the start of `text`; its entry or -1. */
static int64_t match_here(const struct hb_added_tokens *set, const unsigned char *text, size_t n)
{
    for (size_t i = 0; i < set->lengths.count; i++) {
        size_t length = (size_t)set->lengths.data[i];
        int64_t entry = length <= n ? hb_byte_map_find(&set->map, text, length) : -1;
        if (entry >= 0)
            return entry;
    }
    return -1;
}

bool hb_added_tokens_next(const struct hb_added_tokens *set, const unsigned char *text, size_t n, size_t from,
                          bool special, struct hb_added_match *match)
{
    if (set->map.count == 0)
        return false;
    for (size_t at = from; at < n; at++) {
        if (!set->first[text[at]])
            continue;
        int64_t entry = match_here(set, text + at, n - at);
        if (entry < 0)
            continue;
        const struct hb_byte_map_entry *e = &set->map.entries[entry];
        if (special || !(e->value & 1)) {
            *match = (struct hb_added_match){at, at + e->length, (int32_t)(e->value >> 1)};
            return true;
        }
        at += e->length - 1;
    }
    return false;
}
