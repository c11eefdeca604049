/* Files: whole reads, read-only maps, and writes that are there wholly or not
 * at all. Messages name the path and what the system said. */
#ifndef HB_CORE_FILE_H
#define HB_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Reads a whole file. `*data` is malloc'd by us and free'd by the caller, with
 * a NUL added behind its `*size` bytes. */
HB_MUST_USE hb_status hb_file_read(const char *path, char **data, size_t *size);

/* Writes a whole file: a temporary file beside it, fsync, rename, fsync of the
 * folder. On failure (full disk) the old file is untouched and the temporary
 * one removed. */
HB_MUST_USE hb_status hb_file_write(const char *path, const void *data, size_t size);

/* A read-only map of a whole file (an empty file gives size 0, data NULL). */
struct hb_file_map {
    const unsigned char *data;
    size_t size;
};
HB_MUST_USE hb_status hb_file_map(const char *path, struct hb_file_map *out);
void hb_file_unmap(struct hb_file_map *map);

bool hb_file_exists(const char *path);
bool hb_file_is_folder(const char *path);

/* Creates a folder and its parents; an existing one is fine. */
HB_MUST_USE hb_status hb_folder_create(const char *path);
/* Removes a folder with everything in it; a missing one is fine. */
HB_MUST_USE hb_status hb_folder_remove(const char *path);
/* fsync of a folder, so that a rename in it survives a power cut. */
HB_MUST_USE hb_status hb_folder_sync(const char *path);

/* HB_EIO (HB_EMEMORY if that is what errno says) with "cannot VERB PATH: " and errno's
 * words; a full disk adds the remedy. */
hb_status hb_file_fail(const char *verb, const char *path);

/* "a/b" into a new malloc'd string; `b` alone when it is absolute. NULL only without memory. */
char *hb_path_join(const char *a, const char *b);

/* Takes an exclusive lock that dies with the process. HB_EEXIST when somebody
 * else holds it: the message names the path and the holder's process id. */
HB_MUST_USE hb_status hb_lock_take(const char *path, int *handle);
void hb_lock_release(int handle);

#endif
