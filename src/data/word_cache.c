#include "data/word_cache.h"

#include <string.h>
#include <xxhash.h>

#include "core/memory.h"

enum { LINES = 1 << 16 };

hb_status hb_word_cache_init(struct hb_word_cache *cache)
{
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, LINES * sizeof *cache->lines, &memory));
    memset(memory, 0, LINES * sizeof *cache->lines);
    cache->lines = memory;
    return HB_OK;
}

void hb_word_cache_release(struct hb_word_cache *cache)
{
    hb_memory_free(cache->lines);
    cache->lines = NULL;
}

struct hb_word_cache_line *hb_word_cache_find(struct hb_word_cache *cache, const unsigned char *piece,
                                              size_t n, bool *hit)
{
    *hit = false;
    if (n > HB_WORD_CACHE_BYTES)
        return NULL;
    struct hb_word_cache_line *line = &cache->lines[XXH3_64bits(piece, n) & (LINES - 1)];
    *hit = line->id_count && line->length == n && memcmp(line->piece, piece, n) == 0;
    return line;
}

void hb_word_cache_put(struct hb_word_cache_line *line, const unsigned char *piece, size_t n,
                       const int32_t *ids, size_t id_count)
{
    if (id_count > HB_WORD_CACHE_IDS)
        return;
    line->id_count = (uint8_t)id_count;
    line->length = (uint8_t)n;
    memcpy(line->piece, piece, n);
    memcpy(line->ids, ids, id_count * sizeof *ids);
}
