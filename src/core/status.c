#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[1024];
static _Thread_local char place[128];

hb_status hb_fail_at(const char *file, int line, hb_status code, const char *format, ...)
{
    const char *base = strrchr(file, '/');
    snprintf(place, sizeof place, "%s:%d", base ? base + 1 : file, line);
    /* Formatted aside first: an argument may be hb_error() itself. */
    char text[sizeof message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return code;
}

hb_status hb_fail_in(hb_status code, const char *format, ...)
{
    char text[2 * sizeof message + 2];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text, sizeof message, format, args);
    va_end(args);
    if (used < 0)
        used = 0;
    if ((size_t)used >= sizeof message)
        used = sizeof message - 1;
    snprintf(text + used, sizeof text - (size_t)used, ": %s", message);
    text[sizeof message - 1] = '\0';
    memcpy(message, text, sizeof message);
    return code;
}

const char *hb_error(void)
{
    return message;
}

const char *hb_error_place(void)
{
    return place;
}
