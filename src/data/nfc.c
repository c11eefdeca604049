#include "data/nfc.h"

#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#include "core/memory.h"
#include "data/unicode.h"

enum {
    CODE_POINTS = 0x110000,
    EXPANSION = 4, /* the longest canonical decomposition of one character */
    SHORT = 64,    /* bytes of a segment that fits the stack */
};

/* A bit per code point: set when normalising may touch it or look past it.
 * All others are starters that stay as they are whatever stands around them,
 * so a text of only those is NFC, and the text may be cut in front of them. */
static uint8_t active[CODE_POINTS / 8];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool is_active(uint32_t c)
{
    return active[c >> 3] >> (c & 7) & 1;
}

static void activate(utf8proc_int32_t c)
{
    active[c >> 3] |= (uint8_t)(1u << (c & 7));
}

static utf8proc_ssize_t decompose(utf8proc_int32_t c, utf8proc_int32_t *out, utf8proc_ssize_t room)
{
    int boundary = 0;
    return utf8proc_decompose_char(c, out, room, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
}

/* Derived from the decompositions rather than from a list, so that it agrees
 * with whatever Unicode version the library has. */
static void find_active(void)
{
    for (utf8proc_int32_t c = 0x80; c < CODE_POINTS; c++) {
        const utf8proc_property_t *property = utf8proc_get_property(c);
        if (property->combining_class)
            activate(c);
        utf8proc_int32_t parts[EXPANSION];
        utf8proc_ssize_t n = decompose(c, parts, EXPANSION);
        if (n <= 0 || (n == 1 && parts[0] == c))
            continue;
        for (utf8proc_ssize_t i = 1; i < n; i++) /* what may be drawn into a composition */
            activate(parts[i]);
        n = utf8proc_normalize_utf32(parts, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n != 1 || parts[0] != c)
            activate(c);
    }
}

/* Sorts a run of combining marks by class, equal classes in their order: one
 * pass per class that occurs, since a comparison sort in place would not be linear. */
static void sort_marks(utf8proc_int32_t *marks, size_t n, utf8proc_int32_t *scratch)
{
    bool present[256] = {false};
    bool sorted = true;
    utf8proc_propval_t last = 0;
    for (size_t i = 0; i < n; i++) {
        utf8proc_propval_t class = utf8proc_get_property(marks[i])->combining_class;
        present[class & 255] = true;
        sorted = sorted && class >= last;
        last = class;
    }
    if (sorted)
        return;
    size_t filled = 0;
    for (int class = 0; class < 256; class ++)
        for (size_t i = 0; present[class] && i < n; i++)
            if (utf8proc_get_property(marks[i])->combining_class == class)
                scratch[filled++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

/* Normalises [begin, end) into `points`, which has room; returns their number. */
static size_t normalise(const unsigned char *text, size_t begin, size_t end, utf8proc_int32_t *points,
                        utf8proc_int32_t *scratch)
{
    size_t n = 0;
    for (size_t at = begin; at < end;)
        n += (size_t)decompose((utf8proc_int32_t)hb_utf8_get(text, &at), points + n, EXPANSION);
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (run < n && utf8proc_get_property(points[run])->combining_class)
            run++;
        if (run - i > 1)
            sort_marks(points + i, run - i, scratch);
        i = run > i ? run : i + 1;
    }
    return (size_t)utf8proc_normalize_utf32(points, (utf8proc_ssize_t)n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
}

/* Appends [*copied, begin) and the normalised [begin, end) when the latter
 * differs from the text; else leaves both for the next copy. */
static hb_status append_segment(const unsigned char *text, size_t *copied, size_t begin, size_t end,
                                const utf8proc_int32_t *points, size_t n, struct hb_bytes *out)
{
    bool same = true;
    size_t at = begin;
    for (size_t i = 0; same && i < n; i++)
        same = at < end && hb_utf8_get(text, &at) == (uint32_t)points[i];
    if (same && at == end)
        return HB_OK;
    HB_TRY(hb_bytes_append(out, text + *copied, begin - *copied));
    HB_TRY(hb_bytes_reserve(out, 4 * n));
    for (size_t i = 0; i < n; i++)
        out->count += hb_utf8_put((uint32_t)points[i], out->data + out->count);
    *copied = end;
    return HB_OK;
}

static hb_status segment(const unsigned char *text, size_t *copied, size_t begin, size_t end,
                         struct hb_bytes *out)
{
    size_t room = EXPANSION * (end - begin); /* a byte is at most one character */
    utf8proc_int32_t near[2 * EXPANSION * SHORT];
    void *far = NULL;
    if (room > EXPANSION * SHORT)
        HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, 2 * room * sizeof *near, &far));
    utf8proc_int32_t *points = far ? far : near;
    size_t n = normalise(text, begin, end, points, points + room);
    hb_status status = append_segment(text, copied, begin, end, points, n, out);
    hb_memory_free(far);
    return status;
}

hb_status hb_nfc(const unsigned char *text, size_t n, struct hb_bytes *out, bool *changed)
{
    pthread_once(&once, find_active);
    size_t copied = 0;
    size_t starter = 0; /* the last character that is not active, with which marks may compose */
    for (size_t at = 0; at < n;) {
        size_t here = at;
        if (text[at] < 0x80) {
            starter = at++;
            continue;
        }
        if (!is_active(hb_utf8_get(text, &at))) {
            starter = here;
            continue;
        }
        while (at < n) {
            size_t next = at;
            if (!is_active(hb_utf8_get(text, &next)))
                break;
            at = next;
        }
        HB_TRY(segment(text, &copied, starter, at, out));
        starter = at;
    }
    *changed = copied > 0;
    if (copied)
        HB_TRY(hb_bytes_append(out, text + copied, n - copied));
    return HB_OK;
}
