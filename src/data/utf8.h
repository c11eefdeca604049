/* UTF-8 as the Unicode standard has it (table 3-7): no overlong forms, no
 * surrogates, nothing above U+10FFFF. */
#ifndef HB_DATA_UTF8_H
#define HB_DATA_UTF8_H

#include <stddef.h>

/* Bytes at the start of `text` that are whole, valid characters: `size` when
 * all of it is valid, else the offset of the first character that is not. */
size_t hb_utf8_valid_bytes(const void *text, size_t size);

#endif
