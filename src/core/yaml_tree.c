#include "core/yaml_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
    DEPTH_MAX = 32,    /* the parser below recurses */
    NODES_MAX = 20000, /* the search for a key given twice is quadratic */
    SIZE_MAX_BYTES = 1 << 20,
};

/* One text being parsed. */
struct source {
    yaml_parser_t parser;
    const char *file;
    const char *text;
    bool lines; /* whether a line says anything */
    size_t nodes;
};

static hb_status no_memory(const char *name)
{
    return HB_FAIL(HB_EMEMORY, "out of memory: cannot hold %s", name);
}

void hb_yaml_node_destroy(struct hb_yaml_node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->count; i++)
        hb_yaml_node_destroy(node->items[i]);
    free(node->items);
    free(node->key);
    free(node->text);
    free(node->place);
    free(node);
}

struct hb_yaml_node *hb_yaml_node_create(enum hb_yaml_kind kind, const char *file, size_t line)
{
    struct hb_yaml_node *node = calloc(1, sizeof *node);
    if (node)
        *node = (struct hb_yaml_node){.kind = kind, .file = file, .line = line};
    return node;
}

hb_status hb_yaml_node_append(struct hb_yaml_node *node, struct hb_yaml_node *item)
{
    /* Room doubles at each power of two. */
    if ((node->count & (node->count - 1)) == 0) {
        size_t room = node->count ? 2 * node->count : 1;
        struct hb_yaml_node **larger = realloc(node->items, room * sizeof(*larger));
        if (!larger) {
            hb_yaml_node_destroy(item);
            return no_memory(node->file);
        }
        node->items = larger;
    }
    item->parent = node;
    node->items[node->count++] = item;
    return HB_OK;
}

void hb_yaml_write_place(const char *file, size_t line, char *text, size_t size)
{
    if (line)
        snprintf(text, size, "%s:%zu", file, line);
    else
        snprintf(text, size, "%s", file);
}

/* "sources.0.path" */
static void write_path(const struct hb_yaml_node *node, char *text, size_t size)
{
    text[0] = '\0';
    if (!node->parent)
        return;
    write_path(node->parent, text, size);
    size_t used = strlen(text), index = 0;
    const char *dot = used ? "." : "";
    if (node->key) {
        snprintf(text + used, size - used, "%s%s", dot, node->key);
    } else {
        while (index < node->parent->count && node->parent->items[index] != node)
            index++;
        snprintf(text + used, size - used, "%s%zu", dot, index);
    }
}

hb_status hb_yaml_fail(const struct hb_yaml_node *node, const char *format, ...)
{
    char text[512], path[256], place[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hb_yaml_write_place(node->file, node->line, place, sizeof place);
    write_path(node, path, sizeof path);
    return HB_FAIL(HB_EFORMAT, "%s: %s%s%s", place, path, path[0] ? ": " : "", text);
}

static hb_status fail_at(const struct source *source, size_t line, const char *text)
{
    char place[256];
    hb_yaml_write_place(source->file, source->lines ? line : 0, place, sizeof place);
    return HB_FAIL(HB_EFORMAT, "%s: %s", place, text);
}

static hb_status next(struct source *source, yaml_event_t *event)
{
    yaml_parser_t *parser = &source->parser;
    if (yaml_parser_parse(parser, event))
        return HB_OK;
    if (parser->error == YAML_MEMORY_ERROR)
        return no_memory(source->file);
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) { /* bad UTF-8: only the offset is known */
        line = 1;
        for (size_t i = 0; i < parser->problem_offset; i++)
            line += source->text[i] == '\n';
    }
    char text[256];
    snprintf(text, sizeof text, "%s%s%s", parser->problem ? parser->problem : "not valid YAML",
             parser->context ? " " : "", parser->context ? parser->context : "");
    return fail_at(source, line, text);
}

static hb_status refuse_extras(const struct source *source, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_at(source, line, "aliases (*name) are not allowed; write the value itself");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
            return fail_at(source, line, "a NUL character is not allowed");
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default: break;
    }
    if (anchor)
        return fail_at(source, line, "anchors (&name) are not allowed");
    if (tag)
        return fail_at(source, line, "tags (!name) are not allowed");
    return HB_OK;
}

static hb_status parse_node(struct source *source, const yaml_event_t *event, int depth,
                            struct hb_yaml_node *parent, char *key, struct hb_yaml_node **out);

static hb_status check_key(const struct hb_yaml_node *map, const struct hb_yaml_node *item)
{
    if (!item->key[0] || strchr(item->key, '.'))
        return hb_yaml_fail(item, "a key must not be empty or hold a dot");
    size_t i = 0;
    while (strcmp(map->items[i]->key, item->key) != 0)
        i++;
    if (map->items[i] == item)
        return HB_OK;
    char place[256];
    hb_yaml_write_place(map->items[i]->file, map->items[i]->line, place, sizeof place);
    return hb_yaml_fail(item, "given twice, before at %s", place);
}

/* One "key: value" whose key is `event`. */
static hb_status parse_pair(struct source *source, const yaml_event_t *event, int depth,
                            struct hb_yaml_node *map)
{
    size_t line = event->start_mark.line + 1;
    HB_TRY(refuse_extras(source, event));
    if (event->type != YAML_SCALAR_EVENT)
        return fail_at(source, line, "a key must be a plain word");
    char *key = strdup((const char *)event->data.scalar.value);
    if (!key)
        return no_memory(source->file);
    yaml_event_t value;
    hb_status status = next(source, &value);
    if (status != HB_OK) {
        free(key);
        return status;
    }
    struct hb_yaml_node *item;
    status = parse_node(source, &value, depth, map, key, &item);
    yaml_event_delete(&value);
    if (status != HB_OK)
        return status;
    item->line = source->lines ? line : 0; /* where the key stands, not a value below it */
    HB_TRY(hb_yaml_node_append(map, item));
    return check_key(map, item);
}

/* The items of a map or a sequence, up to its end. */
static hb_status parse_items(struct source *source, int depth, struct hb_yaml_node *node)
{
    for (;;) {
        yaml_event_t event;
        HB_TRY(next(source, &event));
        hb_status status = HB_OK;
        bool end = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        if (!end && node->kind == HB_YAML_MAP) {
            status = parse_pair(source, &event, depth, node);
        } else if (!end) {
            struct hb_yaml_node *item;
            status = parse_node(source, &event, depth, node, NULL, &item);
            if (status == HB_OK)
                status = hb_yaml_node_append(node, item);
        }
        yaml_event_delete(&event);
        if (end || status != HB_OK)
            return status;
    }
}

static hb_status fill_node(struct source *source, const yaml_event_t *event, int depth,
                           struct hb_yaml_node *node)
{
    size_t line = event->start_mark.line + 1;
    HB_TRY(refuse_extras(source, event));
    if (depth == DEPTH_MAX)
        return fail_at(source, line, "more than 32 levels");
    if (source->nodes++ == NODES_MAX)
        return fail_at(source, line, "more than 20000 keys and values");
    if (event->type == YAML_SCALAR_EVENT) {
        node->kind = HB_YAML_SCALAR;
        node->text = strdup((const char *)event->data.scalar.value);
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return node->text ? HB_OK : no_memory(source->file);
    }
    node->kind = event->type == YAML_MAPPING_START_EVENT ? HB_YAML_MAP : HB_YAML_SEQUENCE;
    return parse_items(source, depth + 1, node);
}

/* The node that `event` starts; `key` becomes ours. It knows key and parent from
 * the start, so that messages about what lies below can name their path. */
static hb_status parse_node(struct source *source, const yaml_event_t *event, int depth,
                            struct hb_yaml_node *parent, char *key, struct hb_yaml_node **out)
{
    *out = NULL;
    size_t line = source->lines ? event->start_mark.line + 1 : 0;
    struct hb_yaml_node *node = hb_yaml_node_create(HB_YAML_SCALAR, source->file, line);
    if (!node) {
        free(key);
        return no_memory(source->file);
    }
    node->parent = parent;
    node->key = key;
    hb_status status = fill_node(source, event, depth, node);
    if (status != HB_OK) {
        hb_yaml_node_destroy(node);
        return status;
    }
    *out = node;
    return HB_OK;
}

/* Reads on to the one root node; none in an empty text. */
static hb_status parse_stream(struct source *source, struct hb_yaml_node **out)
{
    for (;;) {
        yaml_event_t event;
        HB_TRY(next(source, &event));
        hb_status status = HB_OK;
        bool end = event.type == YAML_STREAM_END_EVENT;
        size_t line = event.start_mark.line + 1;
        if (event.type == YAML_DOCUMENT_START_EVENT && *out)
            status = fail_at(source, line, "a second document (---) is not allowed");
        else if (!end && event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT &&
                 event.type != YAML_DOCUMENT_END_EVENT)
            status = parse_node(source, &event, 0, NULL, NULL, out);
        yaml_event_delete(&event);
        if (end || status != HB_OK)
            return status;
    }
}

hb_status hb_yaml_tree_parse(const char *file, bool lines, const char *text, size_t size,
                             struct hb_yaml_node **out)
{
    *out = NULL;
    if (size > SIZE_MAX_BYTES)
        return HB_FAIL(HB_EFORMAT, "%s has %zu bytes, a configuration at most %d", file, size,
                       SIZE_MAX_BYTES);
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* some editors' byte order mark */
        text += 3;
        size -= 3;
    }
    struct source source = {.file = file, .text = text, .lines = lines};
    if (!yaml_parser_initialize(&source.parser))
        return no_memory(file);
    yaml_parser_set_encoding(&source.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&source.parser, (const unsigned char *)text, size);
    hb_status status = parse_stream(&source, out);
    yaml_parser_delete(&source.parser);
    if (status != HB_OK) {
        hb_yaml_node_destroy(*out);
        *out = NULL;
    }
    return status;
}
