#include "data/pattern.h"

#include <stdbool.h>
#include <string.h>

/* White_Space of Unicode, which is what Oniguruma calls \s. */
#define SPACES                                                                                               \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

struct scan {
    const char *pattern;
    const char *at;
    struct hb_bytes *out;
    bool in_class;
};

static hb_status refuse(const struct scan *s, const char *what)
{
    return HB_FAIL(
        HB_EUNSUPPORTED,
        "pattern: %s at character %zu is not supported (regular expression engines differ on it): %s", what,
        (size_t)(s->at - s->pattern), s->pattern);
}

/* Copies `count` characters as they are. */
static hb_status copy(struct scan *s, size_t count)
{
    HB_TRY(hb_bytes_append(s->out, s->at, count));
    s->at += count;
    return HB_OK;
}

/* "{...}" at `from`; its length, 0 when it is not closed. */
static size_t braces(const char *from)
{
    const char *end = *from == '{' ? strchr(from, '}') : NULL;
    return end ? (size_t)(end - from) + 1 : 0;
}

static hb_status escape(struct scan *s)
{
    char c = s->at[1];
    if (c == 's' || c == 'S') {
        if (s->in_class && c == 'S')
            return refuse(s, "\\S inside [...]");
        const char *set = s->in_class ? SPACES : c == 's' ? "[" SPACES "]" : "[^" SPACES "]";
        s->at += 2;
        return hb_bytes_append_text(s->out, set);
    }
    if (c == 'p' || c == 'P') {
        size_t name = braces(s->at + 2);
        if (name < 3 || s->at[3] == '^')
            return refuse(s, "\\p without {Name}");
        return copy(s, 2 + name);
    }
    if (c == 'x' && s->at[2] == '{') {
        size_t digits = braces(s->at + 2);
        if (digits < 3)
            return refuse(s, "\\x{ without }");
        return copy(s, 2 + digits);
    }
    if (c != '\0' && strchr("rntdD", c))
        return copy(s, 2);
    bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (c == '\0' || letter || (unsigned char)c >= 0x80) {
        char name[] = {'\\', letter ? c : '?', '\0'};
        return refuse(s, name);
    }
    return copy(s, 2);
}

static hb_status in_class(struct scan *s)
{
    char c = *s->at;
    if (c == '[')
        return refuse(s, "a class inside a class");
    if (c == '&' && s->at[1] == '&')
        return refuse(s, "&& inside [...]");
    s->in_class = c != ']';
    return copy(s, 1);
}

static hb_status open_class(struct scan *s)
{
    s->in_class = true;
    size_t length = s->at[1] == '^' ? 2 : 1;
    if (s->at[length] == ']')
        return refuse(s, "an empty class");
    return copy(s, length);
}

static hb_status open_group(struct scan *s)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(s->at, known[i], strlen(known[i])) == 0)
            return copy(s, strlen(known[i]));
    if (s->at[1] == '?' || s->at[1] == '*')
        return refuse(s, "this kind of group");
    return copy(s, 1);
}

static hb_status repeat(struct scan *s)
{
    size_t length = braces(s->at);
    if (length < 3 || strspn(s->at + 1, "0123456789,") != length - 2 || s->at[1] == ',')
        return refuse(s, "'{'");
    HB_TRY(copy(s, length));
    return *s->at == '+' || *s->at == '?' ? refuse(s, "'+' or '?' after {n,m}") : HB_OK;
}

hb_status hb_pattern_translate(const char *pattern, struct hb_bytes *out)
{
    struct scan s = {.pattern = pattern, .at = pattern, .out = out};
    while (*s.at) {
        if (*s.at == '\\')
            HB_TRY(escape(&s));
        else if (s.in_class)
            HB_TRY(in_class(&s));
        else if (*s.at == '[')
            HB_TRY(open_class(&s));
        else if (*s.at == '(')
            HB_TRY(open_group(&s));
        else if (*s.at == '{')
            HB_TRY(repeat(&s));
        else if (strchr(".^$", *s.at))
            return refuse(&s, "'.', '^' or '$'");
        else
            HB_TRY(copy(&s, 1));
    }
    return hb_bytes_append(out, "", 1);
}
