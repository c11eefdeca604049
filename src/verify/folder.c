#include "verify/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

static const char suffix[] = ".safetensors";

static size_t stem_length(const char *name)
{
    size_t length = strlen(name), tail = sizeof suffix - 1;
    return length > tail && strcmp(name + length - tail, suffix) == 0 ? length - tail : 0;
}

static int is_case(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && stem_length(entry->d_name) > 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

hb_status hb_case_list_init(struct hb_case_list *list, const char *folder)
{
    struct dirent **entries;
    *list = (struct hb_case_list){0};
    int count = scandir(folder, &entries, is_case, by_name);
    if (count < 0)
        return hb_file_fail("read folder", folder);
    hb_status status = count ? HB_OK : HB_FAIL(HB_EFORMAT, "%s has no *.safetensors file", folder);
    list->paths = calloc((size_t)count + 1, sizeof *list->paths);
    for (int i = 0; i < count; i++) {
        if (list->paths && status == HB_OK)
            list->paths[list->count] = hb_path_join(folder, entries[i]->d_name);
        if (!list->paths || !list->paths[list->count])
            status = HB_FAIL(HB_EMEMORY, "out of memory for the names in %s", folder);
        else if (status == HB_OK)
            list->count++;
        free(entries[i]);
    }
    free(entries);
    if (status != HB_OK)
        hb_case_list_release(list);
    return status;
}

void hb_case_list_release(struct hb_case_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (struct hb_case_list){0};
}

const char *hb_case_name(const char *path, char *text, size_t size)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(text, size, "%.*s", (int)stem_length(name), name);
    return text;
}
