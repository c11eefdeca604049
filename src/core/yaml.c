#include "core/yaml.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/yaml_tree.h"

enum { NAMES_MAX = 32 };

struct hb_yaml {
    char *name;
    struct hb_yaml_node *root; /* a map */
    char **overrides;          /* "--set a.b", that nodes refer to */
    size_t override_count;
};

static hb_status no_memory(const char *name)
{
    return HB_FAIL(HB_EMEMORY, "out of memory: cannot hold %s", name);
}

hb_status hb_yaml_parse(const char *name, const char *text, size_t size, struct hb_yaml **out)
{
    *out = NULL;
    struct hb_yaml *doc = calloc(1, sizeof *doc);
    if (!doc || !(doc->name = strdup(name))) {
        free(doc);
        return no_memory(name);
    }
    hb_status status = hb_yaml_tree_parse(doc->name, true, text, size, &doc->root);
    if (status == HB_OK && (!doc->root || hb_yaml_is_null(doc->root))) {
        hb_yaml_node_destroy(doc->root);
        doc->root = hb_yaml_node_create(HB_YAML_MAP, doc->name, 0);
        if (!doc->root)
            status = no_memory(name);
    }
    if (status == HB_OK && doc->root->kind != HB_YAML_MAP)
        status = hb_yaml_fail(doc->root, "must be a map of keys and values");
    if (status != HB_OK) {
        hb_yaml_destroy(doc);
        return status;
    }
    doc->root->line = 0; /* the place of the whole is the file */
    *out = doc;
    return HB_OK;
}

hb_status hb_yaml_load(const char *path, struct hb_yaml **out)
{
    *out = NULL;
    char *text;
    size_t size;
    HB_TRY(hb_file_read(path, &text, &size));
    hb_status status = hb_yaml_parse(path, text, size, out);
    free(text);
    return status;
}

void hb_yaml_destroy(struct hb_yaml *doc)
{
    if (!doc)
        return;
    hb_yaml_node_destroy(doc->root);
    for (size_t i = 0; i < doc->override_count; i++)
        free(doc->overrides[i]);
    free(doc->overrides);
    free(doc->name);
    free(doc);
}

/* The child whose name is the first `length` characters; count if there is none. */
static size_t find_child(const struct hb_yaml_node *node, const char *name, size_t length)
{
    size_t i = 0;
    if (node->kind == HB_YAML_MAP) {
        while (i < node->count &&
               (strncmp(node->items[i]->key, name, length) != 0 || node->items[i]->key[length]))
            i++;
        return i;
    }
    if (node->kind == HB_YAML_SCALAR || length == 0)
        return node->count;
    size_t index = 0;
    for (; i < length && isdigit((unsigned char)name[i]) && index < node->count; i++)
        index = 10 * index + (size_t)(name[i] - '0');
    return i == length && index < node->count ? index : node->count;
}

const struct hb_yaml_node *hb_yaml_child(const struct hb_yaml_node *node, const char *name)
{
    size_t index = find_child(node, name, strlen(name));
    return index < node->count ? node->items[index] : NULL;
}

/* Walks down `path` as far as it exists; `*rest` is what does not. */
static struct hb_yaml_node *descend(const struct hb_yaml *doc, const char *path, const char **rest)
{
    struct hb_yaml_node *node = doc->root;
    while (*path) {
        size_t length = strcspn(path, "."), index = find_child(node, path, length);
        bool ends_in_dot = path[length] == '.' && !path[length + 1];
        if (index == node->count || ends_in_dot)
            break;
        node = node->items[index];
        path += length + (path[length] == '.');
    }
    *rest = path;
    return node;
}

const struct hb_yaml_node *hb_yaml_get(const struct hb_yaml *doc, const char *path)
{
    const char *rest;
    const struct hb_yaml_node *node = descend(doc, path, &rest);
    return *rest ? NULL : node;
}

const char *hb_yaml_place(struct hb_yaml *doc, const char *path)
{
    const char *rest;
    struct hb_yaml_node *node = descend(doc, path, &rest);
    if (!node->place) {
        size_t size = strlen(node->file) + 24;
        node->place = malloc(size);
        if (!node->place)
            return node->file;
        hb_yaml_write_place(node->file, node->line, node->place, size);
    }
    return node->place;
}

/* Puts `value` at `path`, which names nothing empty; `value` becomes ours. */
static hb_status put(struct hb_yaml *doc, const char *file, const char *path, struct hb_yaml_node *value)
{
    const char *rest;
    struct hb_yaml_node *node = descend(doc, path, &rest);
    if (!*rest) { /* it exists: take its place */
        struct hb_yaml_node *parent = node->parent;
        size_t i = 0;
        while (parent->items[i] != node)
            i++;
        value->key = node->key;
        node->key = NULL;
        value->parent = parent;
        parent->items[i] = value;
        hb_yaml_node_destroy(node);
        return HB_OK;
    }
    if (hb_yaml_is_null(node)) {
        free(node->text);
        node->text = NULL;
        node->kind = HB_YAML_MAP;
    }
    if (node->kind != HB_YAML_MAP) {
        hb_yaml_node_destroy(value);
        return hb_yaml_fail(node, "has no '%s', so %s cannot reach it", rest, file);
    }
    while (*rest) { /* a map for each missing name, `value` for the last */
        size_t length = strcspn(rest, ".");
        bool last = !rest[length];
        struct hb_yaml_node *item = last ? value : hb_yaml_node_create(HB_YAML_MAP, file, 0);
        char *key = strndup(rest, length);
        if (!item || !key) {
            free(key);
            hb_yaml_node_destroy(value);
            if (!last)
                hb_yaml_node_destroy(item);
            return no_memory(file);
        }
        item->key = key;
        hb_status status = hb_yaml_node_append(node, item);
        if (status != HB_OK) {
            if (!last)
                hb_yaml_node_destroy(value);
            return status;
        }
        node = item;
        rest += length + !last;
    }
    return HB_OK;
}

/* One name or more, none empty, with dots between; the tree must stay shallow. */
static hb_status check_override(const char *override, size_t length)
{
    bool good = override[length] == '=';
    size_t names = 1, name = 0;
    for (size_t i = 0; i < length; i++) {
        name = override[i] == '.' ? 0 : name + 1;
        names += override[i] == '.';
        good = good && (name > 0 || (i > 0 && override[i - 1] != '.'));
    }
    if (!good || name == 0 || names > NAMES_MAX)
        return HB_FAIL(HB_EFORMAT, "--set %s: must have the form path.to.key=value", override);
    return HB_OK;
}

hb_status hb_yaml_set(struct hb_yaml *doc, const char *override)
{
    size_t length = strcspn(override, "=");
    HB_TRY(check_override(override, length));
    char **larger = realloc(doc->overrides, (doc->override_count + 1) * sizeof(*larger));
    if (larger)
        doc->overrides = larger;
    size_t size = length + sizeof "--set ";
    char *file = malloc(size);
    if (!larger || !file) {
        free(file);
        return no_memory(override);
    }
    snprintf(file, size, "--set %s", override);
    doc->overrides[doc->override_count++] = file;

    const char *text = override + length + 1;
    struct hb_yaml_node *value;
    HB_TRY(hb_yaml_tree_parse(file, false, text, strlen(text), &value));
    if (!value) {
        value = hb_yaml_node_create(HB_YAML_SCALAR, file, 0);
        if (!value || !(value->text = strdup(""))) {
            hb_yaml_node_destroy(value);
            return no_memory(override);
        }
    }
    return put(doc, file, file + sizeof "--set " - 1, value);
}
