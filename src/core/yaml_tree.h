/* The nodes of a configuration and the parser that makes them. Private to the
 * yaml files. */
#ifndef HB_CORE_YAML_TREE_H
#define HB_CORE_YAML_TREE_H

#include "core/yaml.h"

/* An empty node, NULL without memory. `file` must outlive it. */
struct hb_yaml_node *hb_yaml_node_create(enum hb_yaml_kind kind, const char *file, size_t line);
/* With everything below it. NULL is allowed. */
void hb_yaml_node_destroy(struct hb_yaml_node *node);
/* Hangs `item` below `node`, which owns it from now on; on failure it is destroyed. */
HB_MUST_USE hb_status hb_yaml_node_append(struct hb_yaml_node *node, struct hb_yaml_node *item);

/* "run.yaml:12", or "run.yaml" for line 0. */
void hb_yaml_write_place(const char *file, size_t line, char *text, size_t size);

/* The one node of a text, NULL in an empty text. Without `lines` (an override)
 * nodes and messages have line 0. */
HB_MUST_USE hb_status hb_yaml_tree_parse(const char *file, bool lines, const char *text, size_t size,
                                         struct hb_yaml_node **out);

#endif
