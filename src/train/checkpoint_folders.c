#include "train/checkpoint_folders.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/file.h"

static hb_status join(const char *a, const char *b, char path[HB_CHECKPOINT_PATH])
{
    int length = snprintf(path, HB_CHECKPOINT_PATH, "%s/%s", a, b);
    if (length < 0 || length >= HB_CHECKPOINT_PATH)
        return HB_FAIL(HB_EARGUMENT, "the path %.60s... is too long; choose a run folder with a shorter one",
                       a);
    return HB_OK;
}

enum { NAME_SIZE = 48 };

static void name_of(int64_t step, const char *suffix, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%sstep-%08lld%s%s", suffix ? "." : "", (long long)step, suffix ? "." : "",
             suffix ? suffix : "");
}

/* The number of exactly the names that name_of makes, else -1. */
static int64_t step_of(const char *name, const char *suffix)
{
    char again[NAME_SIZE];
    const char *digits = name + (suffix ? strlen(".step-") : strlen("step-"));
    if (strncmp(name, suffix ? ".step-" : "step-", (size_t)(digits - name)) != 0)
        return -1;
    errno = 0;
    long long step = strtoll(digits, NULL, 10);
    if (errno != 0 || step < 0)
        return -1;
    name_of(step, suffix, again);
    return strcmp(again, name) == 0 ? step : -1;
}

hb_status hb_checkpoint_root(const char *run_folder, char path[HB_CHECKPOINT_PATH])
{
    return join(run_folder, "checkpoints", path);
}

hb_status hb_checkpoint_path(const char *root, int64_t step, const char *suffix,
                             char path[HB_CHECKPOINT_PATH])
{
    char name[NAME_SIZE];
    name_of(step, suffix, name);
    return join(root, name, path);
}

/* --- listing --- */

/* The checkpoint that `latest` names, -1 if there is no such link. */
static hb_status read_latest(const char *root, int64_t *step)
{
    char path[HB_CHECKPOINT_PATH], name[NAME_SIZE];
    HB_TRY(join(root, "latest", path));
    ssize_t length = readlink(path, name, sizeof name - 1);
    name[length > 0 ? length : 0] = '\0';
    *step = step_of(name, NULL);
    return HB_OK;
}

struct candidate {
    int64_t step, latest;
};

static int rank(const struct candidate *c)
{
    return c->step == c->latest ? 0 : c->step < c->latest ? 1 : 2;
}

static int by_preference(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (rank(x) != rank(y))
        return rank(x) - rank(y);
    return x->step < y->step ? 1 : x->step > y->step ? -1 : 0;
}

static hb_status read_folder(const char *root, DIR *folder, int64_t latest, struct candidate **list,
                             size_t *count)
{
    const struct dirent *entry;
    while ((errno = 0, entry = readdir(folder)) != NULL) {
        char path[HB_CHECKPOINT_PATH];
        int64_t step = step_of(entry->d_name, NULL);
        if (step < 0)
            continue;
        HB_TRY(join(root, entry->d_name, path));
        if (!hb_file_is_folder(path))
            continue;
        struct candidate *grown = realloc(*list, (*count + 1) * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for the list of checkpoints in %s", root);
        *list = grown;
        grown[(*count)++] = (struct candidate){step, latest};
    }
    return errno ? hb_file_fail("read the folder", root) : HB_OK;
}

hb_status hb_checkpoint_list(const char *root, int64_t **steps, size_t *count)
{
    int64_t latest;
    *steps = NULL;
    *count = 0;
    if (!hb_file_exists(root))
        return HB_OK;
    HB_TRY(read_latest(root, &latest));
    DIR *folder = opendir(root);
    if (!folder)
        return hb_file_fail("open the folder", root);
    struct candidate *list = NULL;
    hb_status status = read_folder(root, folder, latest, &list, count);
    closedir(folder);
    if (status == HB_OK && *count > 0) {
        qsort(list, *count, sizeof *list, by_preference);
        *steps = malloc(*count * sizeof **steps);
        if (!*steps)
            status = HB_FAIL(HB_EMEMORY, "out of memory for the list of checkpoints in %s", root);
        for (size_t i = 0; i < *count && status == HB_OK; i++)
            (*steps)[i] = list[i].step;
    }
    free(list);
    return status;
}

/* --- changing --- */

static hb_status move(const char *from, const char *to)
{
    return rename(from, to) == 0 ? HB_OK : hb_file_fail("rename", from);
}

/* A checkpoint that was put aside is the only one of its number while there is
 * none under the proper name. */
static hb_status put_back(const char *root, const char *name, const char *path)
{
    char proper[HB_CHECKPOINT_PATH];
    int64_t step = step_of(name, "old");
    if (step < 0)
        return HB_OK;
    HB_TRY(hb_checkpoint_path(root, step, NULL, proper));
    return hb_file_exists(proper) ? HB_OK : move(path, proper);
}

hb_status hb_checkpoint_remove_leftovers(const char *root)
{
    if (!hb_file_exists(root))
        return HB_OK;
    DIR *folder = opendir(root);
    if (!folder)
        return hb_file_fail("open the folder", root);
    hb_status status = HB_OK;
    const struct dirent *entry;
    while (status == HB_OK && (entry = readdir(folder)) != NULL) {
        char path[HB_CHECKPOINT_PATH];
        if (strncmp(entry->d_name, ".step-", 6) != 0 && strcmp(entry->d_name, ".latest.tmp") != 0)
            continue;
        status = join(root, entry->d_name, path);
        if (status == HB_OK)
            status = put_back(root, entry->d_name, path);
        if (status == HB_OK)
            status = hb_folder_remove(path);
    }
    closedir(folder);
    return status == HB_OK ? hb_folder_sync(root) : status;
}

static hb_status point_latest(const char *root, int64_t step)
{
    char name[NAME_SIZE], link[HB_CHECKPOINT_PATH], temporary[HB_CHECKPOINT_PATH];
    name_of(step, NULL, name);
    HB_TRY(join(root, "latest", link));
    HB_TRY(join(root, ".latest.tmp", temporary));
    if (symlink(name, temporary) != 0)
        return hb_file_fail("link", temporary);
    HB_TRY(move(temporary, link));
    return hb_folder_sync(root);
}

hb_status hb_checkpoint_publish(const char *root, int64_t step)
{
    char temporary[HB_CHECKPOINT_PATH], proper[HB_CHECKPOINT_PATH], old[HB_CHECKPOINT_PATH];
    HB_TRY(hb_checkpoint_path(root, step, "tmp", temporary));
    HB_TRY(hb_checkpoint_path(root, step, "old", old));
    HB_TRY(hb_checkpoint_path(root, step, NULL, proper));
    if (hb_file_exists(proper))
        HB_TRY(move(proper, old)); /* a folder cannot be renamed over a full one */
    HB_TRY(move(temporary, proper));
    HB_TRY(hb_folder_sync(root));
    HB_TRY(hb_fault_point(HB_FAULT_RENAME));
    HB_TRY(point_latest(root, step));
    return hb_folder_remove(old);
}

static hb_status remove_checkpoint(const char *root, int64_t step)
{
    char proper[HB_CHECKPOINT_PATH], gone[HB_CHECKPOINT_PATH];
    HB_TRY(hb_checkpoint_path(root, step, NULL, proper));
    HB_TRY(hb_checkpoint_path(root, step, "gone", gone));
    /* Under its own name it would look damaged once its first file is gone. */
    HB_TRY(move(proper, gone));
    return hb_folder_remove(gone);
}

hb_status hb_checkpoint_prune(const char *root, int keep)
{
    int64_t *steps;
    size_t count;
    hb_status status = hb_checkpoint_list(root, &steps, &count);
    for (size_t i = keep > 1 ? (size_t)keep : 1; i < count && status == HB_OK; i++)
        status = remove_checkpoint(root, steps[i]);
    free(steps);
    return status;
}
