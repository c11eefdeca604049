/* Code points in and out of UTF-8, and the sequences of a text that may be cut
 * or broken. (Whether a text is valid is data/utf8.h's question.) */
#ifndef HB_DATA_UNICODE_H
#define HB_DATA_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* What stands at the start of `text` (`n` >= 1 bytes):
 *   > 0  a whole sequence of that many bytes,
 *   0    the beginning of a sequence that the end of `text` cuts,
 *   < 0  no sequence: minus the bytes of its longest well-formed beginning (at
 *        least 1), which one U+FFFD stands for (Unicode 15, section 3.9). */
int hb_utf8_sequence(const unsigned char *text, size_t n);

/* The code point at `*at` of valid UTF-8; moves `*at` behind it. */
static inline uint32_t hb_utf8_get(const unsigned char *text, size_t *at)
{
    const unsigned char *p = text + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at += 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0) {
        *at += 3;
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *at += 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

/* Writes the code point (a scalar value: the caller's promise) and returns its 1 to 4 bytes. */
static inline size_t hb_utf8_put(uint32_t c, unsigned char *out)
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (unsigned char)(0xc0 | c >> 6);
        out[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (unsigned char)(0xe0 | c >> 12);
        out[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (unsigned char)(0xf0 | c >> 18);
    out[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}

#endif
