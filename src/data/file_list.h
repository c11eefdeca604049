/* The files that a list of files and folders stands for; order and selection
 * are described in data/source.h. */
#ifndef HB_DATA_FILE_LIST_H
#define HB_DATA_FILE_LIST_H

#include <stddef.h>

#include "core/status.h"

struct hb_file_list {
    struct hb_file_entry {
        char *path;
        size_t input; /* which of the inputs it came from */
    } * entries;
    size_t count, room;
};

/* On failure `list` is empty. */
HB_MUST_USE hb_status hb_file_list_init(struct hb_file_list *list, const char *const *inputs, size_t count);
void hb_file_list_release(struct hb_file_list *list);

#endif
