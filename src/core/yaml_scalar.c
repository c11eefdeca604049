/* What a scalar of a configuration means. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/yaml.h"

bool hb_yaml_is_null(const struct hb_yaml_node *node)
{
    if (node->kind != HB_YAML_SCALAR || node->quoted)
        return false;
    return !node->text[0] || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0;
}

static hb_status refuse(const struct hb_yaml_node *node, const char *kind)
{
    if (node->kind == HB_YAML_SCALAR)
        return hb_yaml_fail(node, "must be %s, got \"%.100s\"", kind, node->text);
    return hb_yaml_fail(node, "must be %s, got a %s", kind, node->kind == HB_YAML_MAP ? "map" : "sequence");
}

static bool is_plain(const struct hb_yaml_node *node)
{
    return node->kind == HB_YAML_SCALAR && !node->quoted;
}

static const char *skip_digits(const char *text)
{
    while (isdigit((unsigned char)*text))
        text++;
    return text;
}

hb_status hb_yaml_int(const struct hb_yaml_node *node, int64_t *value)
{
    if (!is_plain(node))
        return refuse(node, "an integer");
    const char *digits = node->text + (node->text[0] == '-' || node->text[0] == '+');
    if (!*digits || *skip_digits(digits))
        return refuse(node, "an integer");
    errno = 0;
    *value = strtoll(node->text, NULL, 10);
    return errno == 0 ? HB_OK : refuse(node, "an integer of 64 bits");
}

/* [-+] digits [. digits] [e [-+] digits], with a digit before or behind the dot. */
static bool looks_like_number(const char *text)
{
    text += *text == '-' || *text == '+';
    const char *end = skip_digits(text);
    bool digits = end > text;
    if (*end == '.') {
        text = end + 1;
        end = skip_digits(text);
        digits = digits || end > text;
    }
    if (digits && (*end == 'e' || *end == 'E')) {
        text = end + 1;
        text += *text == '-' || *text == '+';
        end = skip_digits(text);
        digits = end > text;
    }
    return digits && !*end;
}

hb_status hb_yaml_float(const struct hb_yaml_node *node, double *value)
{
    if (!is_plain(node) || !looks_like_number(node->text))
        return refuse(node, "a number");
    *value = strtod(node->text, NULL);
    return isfinite(*value) ? HB_OK : refuse(node, "a finite number");
}

hb_status hb_yaml_bool(const struct hb_yaml_node *node, bool *value)
{
    bool yes = is_plain(node) && strcmp(node->text, "true") == 0;
    if (!yes && !(is_plain(node) && strcmp(node->text, "false") == 0))
        return refuse(node, "true or false");
    *value = yes;
    return HB_OK;
}

hb_status hb_yaml_string(const struct hb_yaml_node *node, const char **value)
{
    if (node->kind != HB_YAML_SCALAR)
        return refuse(node, "a string");
    *value = node->text;
    return HB_OK;
}
