#include "data/buffer.h"

#include <string.h>

#include "core/memory.h"

hb_status hb_grow(void **data, size_t *capacity, size_t used, size_t need, size_t size)
{
    if (need <= *capacity)
        return HB_OK;
    size_t wanted = *capacity < 16 ? 16 : *capacity;
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2 / size)
            return HB_FAIL(HB_EMEMORY, "out of memory: an array of %zu elements; split the input", need);
        wanted *= 2;
    }
    void *grown;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, wanted * size, &grown));
    if (used)
        memcpy(grown, *data, used * size);
    hb_memory_free(*data);
    *data = grown;
    *capacity = wanted;
    return HB_OK;
}

hb_status hb_bytes_reserve(struct hb_bytes *b, size_t more)
{
    if (more <= b->capacity - b->count)
        return HB_OK;
    if (more > SIZE_MAX - b->count)
        return HB_FAIL(HB_EMEMORY, "out of memory: %zu bytes; split the input", more);
    void *data = b->data;
    HB_TRY(hb_grow(&data, &b->capacity, b->count, b->count + more, 1));
    b->data = data;
    return HB_OK;
}

hb_status hb_bytes_append(struct hb_bytes *b, const void *data, size_t count)
{
    HB_TRY(hb_bytes_reserve(b, count));
    if (count)
        memcpy(b->data + b->count, data, count);
    b->count += count;
    return HB_OK;
}

hb_status hb_bytes_append_text(struct hb_bytes *b, const char *text)
{
    return hb_bytes_append(b, text, strlen(text));
}

void hb_bytes_release(struct hb_bytes *b)
{
    hb_memory_free(b->data);
    *b = (struct hb_bytes){0};
}

hb_status hb_ids_reserve(struct hb_ids *ids, size_t more)
{
    if (more <= ids->capacity - ids->count)
        return HB_OK;
    if (more > SIZE_MAX - ids->count)
        return HB_FAIL(HB_EMEMORY, "out of memory: %zu token ids; split the input", more);
    void *data = ids->data;
    HB_TRY(hb_grow(&data, &ids->capacity, ids->count, ids->count + more, sizeof *ids->data));
    ids->data = data;
    return HB_OK;
}

void hb_ids_release(struct hb_ids *ids)
{
    hb_memory_free(ids->data);
    *ids = (struct hb_ids){0};
}
