#include "data/word_counts.h"

#include "core/memory.h"
#include "data/nfc.h"
#include "data/utf8.h"

static hb_status count_piece(struct hb_word_counts *w, const unsigned char *piece, size_t n)
{
    uint32_t entry;
    bool added;
    HB_TRY(hb_byte_map_add(&w->words, piece, n, 0, &entry, &added));
    if (added) {
        void *counts = w->counts;
        HB_TRY(hb_grow(&counts, &w->capacity, entry, (size_t)entry + 1, sizeof *w->counts));
        w->counts = counts;
        w->counts[entry] = 0;
    }
    w->counts[entry]++;
    return HB_OK;
}

hb_status hb_word_counts_add(struct hb_word_counts *w, struct hb_pretokenizer *pretokenizer, const void *text,
                             size_t n)
{
    size_t valid = hb_utf8_valid_bytes(text, n);
    if (valid < n)
        return HB_FAIL(HB_EFORMAT, "invalid UTF-8 at byte %zu; convert the text to UTF-8", valid);
    const unsigned char *bytes = text;
    bool changed;
    w->normal.count = 0;
    HB_TRY(hb_nfc(bytes, n, &w->normal, &changed));
    if (changed) {
        bytes = w->normal.data;
        n = w->normal.count;
    }
    for (size_t begin = 0, end; begin < n; begin = end) {
        HB_TRY(hb_pretokenizer_next(pretokenizer, bytes, n, begin, &end));
        HB_TRY(count_piece(w, bytes + begin, end - begin));
    }
    return HB_OK;
}

void hb_word_counts_release(struct hb_word_counts *w)
{
    hb_byte_map_release(&w->words);
    hb_memory_free(w->counts);
    hb_bytes_release(&w->normal);
    *w = (struct hb_word_counts){0};
}
