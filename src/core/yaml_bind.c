/* From a configuration tree into a struct. */
#include <math.h>
#include <string.h>

#include "core/yaml.h"

/* Levenshtein's edit distance; beyond its small memory everything is far. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t row[64];
    if (b_length >= sizeof row / sizeof row[0] || a_length >= sizeof row / sizeof row[0])
        return SIZE_MAX;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_length];
}

/* How unlike a known path is to an unknown one. The right word in the wrong
 * map counts as one slip. */
static size_t unlikeness(const char *unknown, const char *known, size_t length)
{
    const char *word = strrchr(unknown, '.') ? strrchr(unknown, '.') + 1 : unknown;
    size_t word_length = strlen(word);
    if (word_length < length && known[length - word_length - 1] == '.' &&
        strncmp(known + length - word_length, word, word_length) == 0)
        return 1;
    return distance(unknown, strlen(unknown), known, length);
}

/* The dotted path of a node into `text`; too long a path is cut, which no field equals. */
static void path_of(const struct hb_yaml_node *node, char *text, size_t size)
{
    text[0] = '\0';
    if (node->parent)
        path_of(node->parent, text, size);
    if (!node->key)
        return;
    size_t used = strlen(text);
    if (used && used + 1 < size)
        text[used++] = '.';
    for (const char *c = node->key; *c && used + 1 < size; c++)
        text[used++] = *c;
    text[used] = '\0';
}

static hb_status refuse_unknown(const struct hb_yaml_node *node, const char *path,
                                const struct hb_yaml_field *fields, size_t count)
{
    const char *nearest = NULL;
    size_t nearest_length = 0, least = 2 + strlen(path) / 8; /* further away is no slip of the finger */
    for (size_t f = 0; f < count; f++) {
        const char *known = fields[f].path;
        for (size_t length = strcspn(known, "."); length > 0;) { /* "model", "model.heads" */
            size_t unlike = unlikeness(path, known, length);
            if (unlike < least || (unlike == least && !nearest)) {
                least = unlike;
                nearest = known;
                nearest_length = length;
            }
            length = known[length] ? length + 1 + strcspn(known + length + 1, ".") : 0;
        }
    }
    if (nearest)
        return hb_yaml_fail(node, "unknown key; did you mean %.*s?", (int)nearest_length, nearest);
    return hb_yaml_fail(node, "unknown key");
}

/* Every key must be a field, or a map on the way to one. */
static hb_status check_keys(const struct hb_yaml_node *map, const struct hb_yaml_field *fields, size_t count)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct hb_yaml_node *node = map->items[i];
        char path[256];
        path_of(node, path, sizeof path);
        size_t length = strlen(path);
        bool field = false, way = false;
        for (size_t f = 0; f < count; f++) {
            field = field || strcmp(fields[f].path, path) == 0;
            way = way || (strncmp(fields[f].path, path, length) == 0 && fields[f].path[length] == '.');
        }
        if (!field && !way)
            return refuse_unknown(node, path, fields, count);
        if (field || hb_yaml_is_null(node))
            continue;
        if (node->kind != HB_YAML_MAP)
            return hb_yaml_fail(node, "must be a map of keys and values");
        HB_TRY(check_keys(node, fields, count));
    }
    return HB_OK;
}

static hb_status check_range(const struct hb_yaml_field *field, const struct hb_yaml_node *node, double value)
{
    if (!(field->min < field->max))
        return HB_OK;
    bool low = field->open_min ? !(value > field->min) : !(value >= field->min);
    bool high = field->open_max ? !(value < field->max) : !(value <= field->max);
    if (!low && !high)
        return HB_OK;
    const char *above = field->open_min ? "above" : "at least",
               *below = field->open_max ? "below" : "at most";
    if (isinf(field->max))
        return hb_yaml_fail(node, "must be %s %.12g, got %s", above, field->min, node->text);
    if (isinf(field->min))
        return hb_yaml_fail(node, "must be %s %.12g, got %s", below, field->max, node->text);
    return hb_yaml_fail(node, "must be %s %.12g and %s %.12g, got %s", above, field->min, below, field->max,
                        node->text);
}

static hb_status read_enum(const struct hb_yaml_field *field, const struct hb_yaml_node *node, int *value)
{
    char names[256] = "";
    const char *text;
    HB_TRY(hb_yaml_string(node, &text));
    for (int i = 0; field->names[i]; i++) {
        if (strcmp(field->names[i], text) == 0) {
            *value = i;
            return HB_OK;
        }
        size_t used = strlen(names);
        if (used + strlen(field->names[i]) + 3 < sizeof names) {
            strcat(names, i ? ", " : "");
            strcat(names, field->names[i]);
        }
    }
    return hb_yaml_fail(node, "must be one of %s, got \"%.100s\"", names, text);
}

static hb_status read_field(const struct hb_yaml_field *field, const struct hb_yaml_node *node, void *to)
{
    switch (field->type) {
    case HB_YAML_INT: HB_TRY(hb_yaml_int(node, to)); return check_range(field, node, (double)*(int64_t *)to);
    case HB_YAML_FLOAT: HB_TRY(hb_yaml_float(node, to)); return check_range(field, node, *(double *)to);
    case HB_YAML_BOOL: return hb_yaml_bool(node, to);
    case HB_YAML_STRING:
        if (!hb_yaml_is_null(node))
            return hb_yaml_string(node, to);
        *(const char **)to = NULL;
        return HB_OK;
    case HB_YAML_ENUM: return read_enum(field, node, to);
    case HB_YAML_NODE: *(const struct hb_yaml_node **)to = hb_yaml_is_null(node) ? NULL : node; return HB_OK;
    }
    return HB_FAIL(HB_EINTERNAL, "the field %s has no type", field->path);
}

/* The default goes the way of a value in the file, under the same checks. The
 * text is the table's own, and a string field may keep pointing to it. */
static hb_status read_fallback(const struct hb_yaml_field *field, void *to)
{
    struct hb_yaml_node top = {.kind = HB_YAML_MAP, .file = "default"};
    struct hb_yaml_node node = {.kind = HB_YAML_SCALAR, .file = "default", .parent = &top};
    char *constant;
    memcpy(&constant, &field->fallback, sizeof constant);
    node.text = constant;
    memcpy(&constant, &field->path, sizeof constant);
    node.key = constant;
    return read_field(field, &node, to);
}

static hb_status refuse_missing(const struct hb_yaml *doc, const struct hb_yaml_field *field)
{
    static const char *const kinds[] = {
        [HB_YAML_INT] = "an integer",  [HB_YAML_FLOAT] = "a number", [HB_YAML_BOOL] = "true or false",
        [HB_YAML_STRING] = "a string", [HB_YAML_ENUM] = "a word",    [HB_YAML_NODE] = "a value",
    };
    return hb_yaml_fail(hb_yaml_get(doc, ""), "%s is missing; it must be %s", field->path,
                        kinds[field->type]);
}

hb_status hb_yaml_bind(const struct hb_yaml *doc, const struct hb_yaml_field *fields, size_t count,
                       void *object)
{
    HB_TRY(check_keys(hb_yaml_get(doc, ""), fields, count));
    for (size_t f = 0; f < count; f++) {
        const struct hb_yaml_field *field = &fields[f];
        const struct hb_yaml_node *node = hb_yaml_get(doc, field->path);
        void *to = (char *)object + field->offset;
        if (node && !hb_yaml_is_null(node))
            HB_TRY(read_field(field, node, to));
        else if (field->fallback && field->type == HB_YAML_NODE)
            *(const struct hb_yaml_node **)to = NULL; /* who reads it knows what that means */
        else if (field->fallback)
            HB_TRY(read_fallback(field, to));
        else
            return refuse_missing(doc, field);
    }
    return HB_OK;
}
