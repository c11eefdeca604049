/* Oniguruma patterns, as `tokenizer.json` files hold them, in PCRE2's words. */
#ifndef HB_DATA_PATTERN_H
#define HB_DATA_PATTERN_H

#include "data/buffer.h"

/* Appends the translation and a NUL. See data/pretokenize.h for what is refused. */
HB_MUST_USE hb_status hb_pattern_translate(const char *pattern, struct hb_bytes *out);

#endif
