/* The cases of a folder. */
#ifndef HB_VERIFY_FOLDER_H
#define HB_VERIFY_FOLDER_H

#include <stddef.h>

#include "core/status.h"

struct hb_case_list {
    char **paths; /* of its *.safetensors files, in bytewise order of their names */
    int count;
};

/* HB_EIO when the folder cannot be read, HB_EFORMAT when it has no such file. */
HB_MUST_USE hb_status hb_case_list_init(struct hb_case_list *list, const char *folder);
void hb_case_list_release(struct hb_case_list *list);

/* "rmsnorm-003" of a path. */
const char *hb_case_name(const char *path, char *text, size_t size);

#endif
