/* Names of files that differ in their ends: PREFIX.bin, PREFIX.idx, ... */
#ifndef HB_DATA_PATH_H
#define HB_DATA_PATH_H

/* `path` with `suffix` behind it, malloc'd. NULL only without memory. */
char *hb_path_append(const char *path, const char *suffix);

#endif
