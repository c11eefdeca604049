#include "data/json_text.h"

#include <inttypes.h>
#include <stdio.h>

static hb_status escape(struct hb_bytes *out, unsigned char c)
{
    char text[8];
    if (c == '"' || c == '\\')
        snprintf(text, sizeof text, "\\%c", c);
    else if (c == '\n')
        snprintf(text, sizeof text, "\\n");
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    return hb_bytes_append_text(out, text);
}

hb_status hb_json_text_string(struct hb_bytes *out, const void *text, size_t n)
{
    const unsigned char *bytes = text;
    HB_TRY(hb_bytes_append(out, "\"", 1));
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] >= ' ' && bytes[i] != '"' && bytes[i] != '\\')
            continue;
        HB_TRY(hb_bytes_append(out, bytes + plain, i - plain));
        HB_TRY(escape(out, bytes[i]));
        plain = i + 1;
    }
    HB_TRY(hb_bytes_append(out, bytes + plain, n - plain));
    return hb_bytes_append(out, "\"", 1);
}

hb_status hb_json_text_number(struct hb_bytes *out, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return hb_bytes_append_text(out, text);
}
