#include "data/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the character at `p`, of which `left` >= 1 bytes are there; 0 when it is not valid. */
static size_t character(const unsigned char *p, size_t left)
{
    unsigned char lead = p[0];
    unsigned char low = 0x80, high = 0xbf; /* of the second byte, which depends on the first */
    size_t length;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        length = 3;
        if (lead == 0xe0)
            low = 0xa0; /* below: an overlong form */
        if (lead == 0xed)
            high = 0x9f; /* above: a surrogate */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        if (lead == 0xf0)
            low = 0x90; /* below: an overlong form */
        if (lead == 0xf4)
            high = 0x8f; /* above: beyond U+10FFFF */
    } else {
        return 0;
    }
    if (left < length || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

size_t hb_utf8_valid_bytes(const void *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        if (size - at >= sizeof eight) { /* most text is mostly ASCII */
            memcpy(&eight, bytes + at, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                at += sizeof eight;
                continue;
            }
        }
        size_t length = character(bytes + at, size - at);
        if (length == 0)
            return at;
        at += length;
    }
    return size;
}
