/* Growable arrays of bytes and of token ids. Memory is counted as `data`. */
#ifndef HB_DATA_BUFFER_H
#define HB_DATA_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Zero-initialised is empty. `data` may be NULL while `count` is 0. */
struct hb_bytes {
    unsigned char *data;
    size_t count, capacity;
};

struct hb_ids {
    int32_t *data;
    size_t count, capacity;
};

/* Makes room for `need` elements of `size` bytes in `*data`, of which `used`
 * are filled and kept; at least doubles, so that n appends cost O(n). */
HB_MUST_USE hb_status hb_grow(void **data, size_t *capacity, size_t used, size_t need, size_t size);

HB_MUST_USE hb_status hb_bytes_reserve(struct hb_bytes *b, size_t more);
HB_MUST_USE hb_status hb_bytes_append(struct hb_bytes *b, const void *data, size_t count);
/* Appends a NUL-terminated string without its NUL. */
HB_MUST_USE hb_status hb_bytes_append_text(struct hb_bytes *b, const char *text);
void hb_bytes_release(struct hb_bytes *b);

HB_MUST_USE hb_status hb_ids_reserve(struct hb_ids *ids, size_t more);
void hb_ids_release(struct hb_ids *ids);

static inline hb_status hb_ids_push(struct hb_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity)
        HB_TRY(hb_ids_reserve(ids, 1));
    ids->data[ids->count++] = id;
    return HB_OK;
}

#endif
