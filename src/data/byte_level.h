/* The byte alphabet of GPT-2: every byte has one printable character, so that
 * any byte string can be written as a JSON key.
 *
 * Bytes 21..7e, a1..ac and ae..ff stand for themselves (as code points); the
 * other 68 take U+0100, U+0101, ... in order (Hugging Face `bytes_to_unicode`). */
#ifndef HB_DATA_BYTE_LEVEL_H
#define HB_DATA_BYTE_LEVEL_H

#include "data/buffer.h"

/* Code point that stands for `byte`. */
uint32_t hb_byte_level_of_byte(unsigned char byte);

/* Byte that the code point stands for, -1 when it stands for none. */
int hb_byte_level_to_byte(uint32_t code_point);

/* The byte with place `rank` (0..255) when the characters are sorted: ids 0..255 of
 * the usual vocabularies ('!' is 0, the space is 220). */
unsigned char hb_byte_level_sorted(int rank);

/* Appends the bytes that valid UTF-8 `text` spells. HB_EFORMAT for a character
 * outside the alphabet: nothing is appended. */
HB_MUST_USE hb_status hb_byte_level_decode(const char *text, size_t n, struct hb_bytes *out);

/* Appends the spelling of the bytes, as UTF-8. */
HB_MUST_USE hb_status hb_byte_level_encode(const unsigned char *bytes, size_t n, struct hb_bytes *out);

#endif
