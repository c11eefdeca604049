/* Unicode Normalization Form C (UAX #15), by the tables of utf8proc.
 *
 * Time is linear in the text, also for long runs of combining marks. */
#ifndef HB_DATA_NFC_H
#define HB_DATA_NFC_H

#include <stdbool.h>

#include "data/buffer.h"

/* Normalises valid UTF-8. `*changed` false: the text is NFC already and `out`
 * is as it was. True: the result was appended to `out`. */
HB_MUST_USE hb_status hb_nfc(const unsigned char *text, size_t n, struct hb_bytes *out, bool *changed);

#endif
