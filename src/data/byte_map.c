#include "data/byte_map.h"

#include <string.h>
#include <xxhash.h>

#include "core/memory.h"

void hb_byte_map_release(struct hb_byte_map *map)
{
    hb_bytes_release(&map->bytes);
    hb_memory_free(map->entries);
    hb_memory_free(map->slots);
    *map = (struct hb_byte_map){0};
}

/* Slot of the string, or the free slot where it belongs. Needs a free slot. */
static size_t probe(const struct hb_byte_map *map, const void *text, size_t length, uint64_t hash)
{
    size_t mask = map->slot_count - 1;
    size_t at = (size_t)hash & mask;
    for (;; at = (at + 1) & mask) {
        uint64_t slot = map->slots[at];
        if (slot == 0)
            return at;
        if (slot >> 32 != hash >> 32)
            continue;
        const struct hb_byte_map_entry *e = &map->entries[(uint32_t)slot - 1];
        if (e->length == length && memcmp(map->bytes.data + e->offset, text, length) == 0)
            return at;
    }
}

int64_t hb_byte_map_find(const struct hb_byte_map *map, const void *text, size_t length)
{
    if (map->count == 0 || length == 0 || length > UINT32_MAX)
        return -1;
    uint64_t slot = map->slots[probe(map, text, length, XXH3_64bits(text, length))];
    return (int64_t)(uint32_t)slot - 1;
}

/* Doubles the slots; kept at most half full. */
static hb_status widen(struct hb_byte_map *map)
{
    size_t count = map->slot_count ? 2 * map->slot_count : 64;
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, count * sizeof *map->slots, &memory));
    hb_memory_free(map->slots);
    map->slots = memory;
    map->slot_count = count;
    memset(map->slots, 0, count * sizeof *map->slots);
    for (size_t i = 0; i < map->count; i++) {
        uint64_t hash = XXH3_64bits(hb_byte_map_text(map, i), map->entries[i].length);
        size_t at = (size_t)hash & (count - 1);
        while (map->slots[at])
            at = (at + 1) & (count - 1);
        map->slots[at] = (hash >> 32) << 32 | (i + 1);
    }
    return HB_OK;
}

hb_status hb_byte_map_add(struct hb_byte_map *map, const void *text, size_t length, uint32_t value,
                          uint32_t *entry, bool *added)
{
    if (length == 0 || length > UINT32_MAX)
        return HB_FAIL(HB_EARGUMENT, "a string of %zu bytes cannot be a key (1 to %u bytes)", length,
                       UINT32_MAX);
    if (map->count >= INT32_MAX)
        return HB_FAIL(HB_EUNSUPPORTED, "more than %d distinct strings; use less text", INT32_MAX);
    if (2 * (map->count + 1) > map->slot_count)
        HB_TRY(widen(map));
    uint64_t hash = XXH3_64bits(text, length);
    size_t at = probe(map, text, length, hash);
    *added = map->slots[at] == 0;
    if (*added) {
        void *entries = map->entries;
        HB_TRY(hb_grow(&entries, &map->capacity, map->count, map->count + 1, sizeof *map->entries));
        map->entries = entries;
        size_t offset = map->bytes.count;
        HB_TRY(hb_bytes_append(&map->bytes, text, length));
        map->entries[map->count] = (struct hb_byte_map_entry){offset, (uint32_t)length, value};
        map->count++;
        map->slots[at] = (hash >> 32) << 32 | map->count;
    }
    *entry = (uint32_t)map->slots[at] - 1;
    return HB_OK;
}
