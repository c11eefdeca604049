/* From a struct into the text of a configuration. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/yaml.h"

/* Whether no character of it means anything to YAML. */
static bool is_safe(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_./-+~", *c))
            return false;
    return true;
}

/* Whether a string may stand without quotes: to this reader and to those that
 * take yes, on, 12 or 1e5 for something else. */
static bool is_plain_word(const char *text)
{
    static const char *const taken[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '/')
        return false;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        const char *a = text, *b = taken[i];
        while (*a && tolower((unsigned char)*a) == *b)
            a++, b++;
        if (!*a && !*b)
            return false;
    }
    return is_safe(text);
}

/* The character at `c` and its bytes; characters of four bytes, and parts of
 * one, stand for themselves. */
static size_t decode(const unsigned char *c, unsigned *code)
{
    *code = c[0];
    if (c[0] >= 0xc2 && c[0] < 0xe0 && c[1]) {
        *code = (c[0] & 0x1fu) << 6 | (c[1] & 0x3fu);
        return 2;
    }
    if (c[0] >= 0xe0 && c[0] < 0xf0 && c[1] && c[2]) {
        *code = (c[0] & 0xfu) << 12 | (c[1] & 0x3fu) << 6 | (c[2] & 0x3fu);
        return 3;
    }
    if (c[0] >= 0x80)
        *code = 0xfffd;
    return 1;
}

static void emit_string(FILE *out, const char *text)
{
    if (is_plain_word(text)) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    const unsigned char *c = (const unsigned char *)text;
    for (size_t length; *c; c += length) {
        unsigned code;
        length = decode(c, &code);
        bool control = code < ' ' || (code >= 0x7f && code < 0xa0);
        bool line_end = code == 0x2028 || code == 0x2029;
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (control || line_end || code == 0xfeff || code > 0xfffd) /* YAML would refuse or fold it */
            fprintf(out, "\\u%04x", code);
        else
            fwrite(c, 1, length, out);
    }
    fputc('"', out);
}

/* The shortest digits that give the same double; always with a dot, since some
 * readers take 3e-05 for a word. */
static void emit_float(FILE *out, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    size_t mantissa = strcspn(text, "e");
    bool dot = memchr(text, '.', mantissa) != NULL;
    fprintf(out, "%.*s%s%s", (int)mantissa, text, dot ? "" : ".0", text + mantissa);
}

/* A tree in one line. The parser bounds its depth. */
static void emit_node(FILE *out, const struct hb_yaml_node *node)
{
    bool map = node->kind == HB_YAML_MAP;
    if (node->kind == HB_YAML_SCALAR) {
        if (hb_yaml_is_null(node))
            fputs("null", out);
        else if (!node->quoted && is_safe(node->text))
            fputs(node->text, out); /* a number stays one */
        else
            emit_string(out, node->text);
        return;
    }
    fputc(map ? '{' : '[', out);
    for (size_t i = 0; i < node->count; i++) {
        if (i)
            fputs(", ", out);
        if (map) {
            emit_string(out, node->items[i]->key);
            fputs(": ", out);
        }
        emit_node(out, node->items[i]);
    }
    fputc(map ? '}' : ']', out);
}

static void emit_value(FILE *out, const struct hb_yaml_field *field, const void *from)
{
    const char *text;
    const struct hb_yaml_node *node;
    switch (field->type) {
    case HB_YAML_INT: fprintf(out, "%" PRId64, *(const int64_t *)from); break;
    case HB_YAML_FLOAT: emit_float(out, *(const double *)from); break;
    case HB_YAML_BOOL: fputs(*(const bool *)from ? "true" : "false", out); break;
    case HB_YAML_ENUM: fputs(field->names[*(const int *)from], out); break;
    case HB_YAML_STRING:
        text = *(const char *const *)from;
        if (text)
            emit_string(out, text);
        else
            fputs("null", out);
        break;
    case HB_YAML_NODE:
        node = *(const struct hb_yaml_node *const *)from;
        if (node)
            emit_node(out, node);
        else
            fputs(field->fallback ? field->fallback : "null", out);
        break;
    }
}

/* Everything below the first `length` characters of fields[first].path, each
 * name where the table has it first. The table's paths bound the depth. */
static void emit_level(FILE *out, const struct hb_yaml_field *fields, size_t count, size_t first,
                       size_t length, int depth, const void *object)
{
    const char *prefix = fields[first].path;
    for (size_t f = first; f < count; f++) {
        const char *path = fields[f].path;
        if (strncmp(path, prefix, length) != 0)
            continue;
        size_t end = length + strcspn(path + length, ".");
        bool seen = false;
        for (size_t g = first; g < f && !seen; g++)
            seen = strncmp(fields[g].path, path, end) == 0 && fields[g].path[end] == '.';
        if (seen)
            continue;
        fprintf(out, "%*s%.*s:", 2 * depth, "", (int)(end - length), path + length);
        if (path[end]) {
            fputc('\n', out);
            emit_level(out, fields, count, f, end + 1, depth + 1, object);
        } else {
            fputc(' ', out);
            emit_value(out, &fields[f], (const char *)object + fields[f].offset);
            fputc('\n', out);
        }
    }
}

hb_status hb_yaml_emit(const struct hb_yaml_field *fields, size_t count, const void *object, char **text)
{
    *text = NULL;
    size_t size;
    FILE *out = open_memstream(text, &size);
    if (!out)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write a configuration");
    if (count > 0)
        emit_level(out, fields, count, 0, 0, 0, object);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write a configuration");
    }
    return HB_OK;
}
