/* Appends JSON text piece by piece, where a tree of values would only cost memory. */
#ifndef HB_DATA_JSON_TEXT_H
#define HB_DATA_JSON_TEXT_H

#include "data/buffer.h"

/* Appends valid UTF-8 as a quoted string: '"', '\' and control characters escaped, the rest as it is. */
HB_MUST_USE hb_status hb_json_text_string(struct hb_bytes *out, const void *text, size_t n);
/* Appends a whole number. */
HB_MUST_USE hb_status hb_json_text_number(struct hb_bytes *out, int64_t number);

#endif
