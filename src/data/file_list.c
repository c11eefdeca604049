#include "data/file_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"

/* Takes `path` over, also on failure. */
static hb_status add(struct hb_file_list *list, char *path, size_t input)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        struct hb_file_entry *larger = realloc(list->entries, room * sizeof *larger);
        if (!larger) {
            free(path);
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot list %zu files", room);
        }
        list->entries = larger;
        list->room = room;
    }
    list->entries[list->count++] = (struct hb_file_entry){path, input};
    return HB_OK;
}

static hb_status add_folder(struct hb_file_list *list, const char *folder, size_t input);

/* What a name inside a folder stands for. Only here are links to folders left
 * alone: they may lead back up, and the search would never end. */
static hb_status add_inside(struct hb_file_list *list, const char *folder, const char *name, size_t input)
{
    char *path = hb_path_join(folder, name);
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot list %s", folder);
    struct stat entry, target;
    if (lstat(path, &entry) != 0 || stat(path, &target) != 0) {
        hb_status status = HB_FAIL(HB_EIO, "cannot look at %s: %s", path, strerror(errno));
        free(path);
        return status;
    }
    if (S_ISREG(target.st_mode))
        return add(list, path, input);
    hb_status status = S_ISDIR(entry.st_mode) ? add_folder(list, path, input) : HB_OK;
    free(path);
    return status;
}

static hb_status add_folder(struct hb_file_list *list, const char *folder, size_t input)
{
    DIR *handle = opendir(folder);
    if (!handle)
        return HB_FAIL(HB_EIO, "cannot open the folder %s: %s", folder, strerror(errno));
    hb_status status = HB_OK;
    while (status == HB_OK) {
        errno = 0;
        struct dirent *entry = readdir(handle);
        if (!entry) {
            if (errno != 0)
                status = HB_FAIL(HB_EIO, "cannot read the folder %s: %s", folder, strerror(errno));
            break;
        }
        if (entry->d_name[0] != '.')
            status = add_inside(list, folder, entry->d_name, input);
    }
    closedir(handle);
    return status;
}

static int by_path(const void *a, const void *b)
{
    const struct hb_file_entry *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static hb_status add_input(struct hb_file_list *list, const char *path, size_t input)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return HB_FAIL(HB_EIO, "cannot read the input %s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        size_t first = list->count;
        HB_TRY(add_folder(list, path, input));
        if (list->count == first)
            return HB_FAIL(HB_EARGUMENT, "the folder %s holds no files", path);
        qsort(list->entries + first, list->count - first, sizeof *list->entries, by_path);
        return HB_OK;
    }
    if (!S_ISREG(info.st_mode))
        return HB_FAIL(HB_EARGUMENT,
                       "the input %s is neither a file nor a folder; inputs are read twice, "
                       "so write it into a file first",
                       path);
    char *copy = strdup(path);
    return copy ? add(list, copy, input) : HB_FAIL(HB_EMEMORY, "out of memory: cannot list %s", path);
}

hb_status hb_file_list_init(struct hb_file_list *list, const char *const *inputs, size_t count)
{
    *list = (struct hb_file_list){NULL, 0, 0};
    hb_status status = HB_OK;
    for (size_t i = 0; i < count && status == HB_OK; i++)
        status = add_input(list, inputs[i], i);
    if (status != HB_OK)
        hb_file_list_release(list);
    return status;
}

void hb_file_list_release(struct hb_file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].path);
    free(list->entries);
    *list = (struct hb_file_list){NULL, 0, 0};
}
