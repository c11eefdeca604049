/* Configuration files: YAML into a tree that knows its places, and tables that
 * carry such a tree into a C struct and back into text.
 *
 * A part of YAML is enough for configuration, and safe: one document, a map at
 * the top, keys without dots, no anchors, aliases or tags (one line stands for
 * one thing), at most 32 levels and 20000 nodes. Errors are HB_EFORMAT and read
 *
 *     run.yaml:12: model.heads: must be an integer, got "six"
 *
 * where the place of an override is "--set model.heads". */
#ifndef HB_CORE_YAML_H
#define HB_CORE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* The tree. */

enum hb_yaml_kind { HB_YAML_SCALAR, HB_YAML_MAP, HB_YAML_SEQUENCE };

/* Belongs to its document. Read it, do not write it. */
struct hb_yaml_node {
    enum hb_yaml_kind kind;
    const char *file; /* as given, or "--set a.b" */
    size_t line;      /* from 1; 0 where a line would say nothing */
    struct hb_yaml_node *parent;
    char *key;   /* in a map, else NULL */
    char *text;  /* of a scalar */
    bool quoted; /* a quoted scalar is a string, whatever it spells */
    struct hb_yaml_node **items;
    size_t count;
    char *place; /* made by hb_yaml_place */
};

struct hb_yaml;

/* Reads a file; an empty one is an empty map. */
HB_MUST_USE hb_status hb_yaml_load(const char *path, struct hb_yaml **out);
/* The same from memory; `name` is what messages call it. */
HB_MUST_USE hb_status hb_yaml_parse(const char *name, const char *text, size_t size, struct hb_yaml **out);
/* NULL is allowed. */
void hb_yaml_destroy(struct hb_yaml *doc);

/* Merges an override "a.b=VALUE", VALUE in YAML ("[1, 2]" too), over what the
 * file says; missing maps on the way are made. On refusal nothing is changed. */
HB_MUST_USE hb_status hb_yaml_set(struct hb_yaml *doc, const char *override);

/* The node at "model.heads" or, in a sequence, "sources.0.path"; NULL if absent. */
const struct hb_yaml_node *hb_yaml_get(const struct hb_yaml *doc, const char *path);
/* The child of a map or a sequence under one such name; NULL if absent. */
const struct hb_yaml_node *hb_yaml_child(const struct hb_yaml_node *node, const char *name);

/* A key without value, or with null or ~: the same as an absent one. */
bool hb_yaml_is_null(const struct hb_yaml_node *node);

/* Typed reads of a scalar. Integers are decimal. Numbers are finite. A string
 * is the text of any scalar and lives as long as the document. */
HB_MUST_USE hb_status hb_yaml_int(const struct hb_yaml_node *node, int64_t *value);
HB_MUST_USE hb_status hb_yaml_float(const struct hb_yaml_node *node, double *value);
HB_MUST_USE hb_status hb_yaml_bool(const struct hb_yaml_node *node, bool *value);
HB_MUST_USE hb_status hb_yaml_string(const struct hb_yaml_node *node, const char **value);

/* "run.yaml:12" for what is at `path`, or else for the nearest thing above it;
 * lives as long as the document. */
const char *hb_yaml_place(struct hb_yaml *doc, const char *path);

/* Raises HB_EFORMAT: "run.yaml:12: model.heads: " and the text. */
hb_status hb_yaml_fail(const struct hb_yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Tables. */

enum hb_yaml_type {
    HB_YAML_INT,    /* int64_t */
    HB_YAML_FLOAT,  /* double */
    HB_YAML_BOOL,   /* bool */
    HB_YAML_STRING, /* const char *, NULL for null; belongs to the document or to the table */
    HB_YAML_ENUM,   /* int, an index into `names` */
    HB_YAML_NODE,   /* const struct hb_yaml_node *: anything, read by the caller; NULL for null */
};

struct hb_yaml_field {
    const char *path; /* "model.heads" */
    enum hb_yaml_type type;
    size_t offset;            /* in the struct */
    const char *fallback;     /* as it would stand in the file ("3e-4", "null"); NULL: required.
                                 A HB_YAML_NODE without one is NULL, and written as this. */
    const char *const *names; /* of an enum, NULL at the end */
    double min, max;          /* of numbers, checked if min < max; INFINITY for no bound */
    bool open_min, open_max;  /* the bound itself is outside */
};

/* Fills `object` from the document. Refuses keys that no field knows (with the
 * nearest that one does), wrong types, numbers outside their range, and missing
 * required keys; `object` is then in part filled. */
HB_MUST_USE hb_status hb_yaml_bind(const struct hb_yaml *doc, const struct hb_yaml_field *fields,
                                   size_t count, void *object);

/* Writes all fields with their values as YAML: in the order of the table,
 * nested by path. Binding the text gives an equal struct. `*text` is free'd by
 * the caller. */
HB_MUST_USE hb_status hb_yaml_emit(const struct hb_yaml_field *fields, size_t count, const void *object,
                                   char **text);

#endif
