#include "data/byte_level.h"

#include <stdbool.h>

#include "data/unicode.h"

static bool stands_for_itself(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Bytes 00..20 take U+0100..U+0120, 7f..a0 take U+0121..U+0142, ad takes U+0143. */
uint32_t hb_byte_level_of_byte(unsigned char byte)
{
    if (stands_for_itself(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte <= 0xa0 ? 0x121u + (byte - 0x7fu) : 0x143u;
}

int hb_byte_level_to_byte(uint32_t c)
{
    if (c < 0x100)
        return stands_for_itself((int)c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

unsigned char hb_byte_level_sorted(int rank)
{
    int seen = 0;
    for (uint32_t c = 0;; c++) {
        int byte = hb_byte_level_to_byte(c);
        if (byte >= 0 && seen++ == rank)
            return (unsigned char)byte;
    }
}

hb_status hb_byte_level_decode(const char *text, size_t n, struct hb_bytes *out)
{
    size_t before = out->count;
    HB_TRY(hb_bytes_reserve(out, n));
    for (size_t at = 0; at < n;) {
        uint32_t c = hb_utf8_get((const unsigned char *)text, &at);
        int byte = hb_byte_level_to_byte(c);
        if (byte < 0) {
            out->count = before;
            return HB_FAIL(HB_EFORMAT, "U+%04X is not in the byte-level alphabet", (unsigned)c);
        }
        out->data[out->count++] = (unsigned char)byte;
    }
    return HB_OK;
}

hb_status hb_byte_level_encode(const unsigned char *bytes, size_t n, struct hb_bytes *out)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char spelling[4];
        size_t length = hb_utf8_put(hb_byte_level_of_byte(bytes[i]), spelling);
        HB_TRY(hb_bytes_append(out, spelling, length));
    }
    return HB_OK;
}
