#include "parallel/absence.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte has the last bits of a number");

static const unsigned char mark[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Where part `part` begins in the range, in bytes. */
static size_t first_of(enum hb_dtype dtype, struct hb_range range, int64_t size, int64_t part)
{
    int64_t begin = part * size > range.begin ? part * size : range.begin;
    return (size_t)(begin - range.begin) * hb_dtype_size(dtype);
}

void hb_absence_mark(void *values, enum hb_dtype dtype, struct hb_range range, int64_t size,
                     const int32_t *present)
{
    for (int64_t part = range.begin / size; part * size < range.end; part++) {
        unsigned char *first = (unsigned char *)values + first_of(dtype, range, size, part);
        if (!*present++)
            memcpy(first, mark, hb_dtype_size(dtype));
        else if (memcmp(first, mark, hb_dtype_size(dtype)) == 0)
            first[0] = 0xfe;
    }
}

void hb_absence_read(const void *values, enum hb_dtype dtype, struct hb_range range, int64_t size,
                     int32_t *present)
{
    for (int64_t part = range.begin / size; part * size < range.end; part++) {
        const unsigned char *first = (const unsigned char *)values + first_of(dtype, range, size, part);
        *present++ = memcmp(first, mark, hb_dtype_size(dtype)) != 0;
    }
}
