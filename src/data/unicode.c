#include "data/unicode.h"

int hb_utf8_sequence(const unsigned char *text, size_t n)
{
    unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return -1;
    int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    /* Only the second byte has a range that depends on the first: it keeps out
     * overlong forms (e0, f0), surrogates (ed) and what lies above U+10FFFF (f4). */
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n)
            return 0;
        if (text[i] < low || text[i] > high)
            return -i;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}
