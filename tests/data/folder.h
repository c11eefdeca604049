/* A temporary folder for one test, and files in it. Include after cmocka.h. */
#ifndef HB_TESTS_DATA_FOLDER_H
#define HB_TESTS_DATA_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

static char folder[64];

static inline int enter_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/hornbook-data-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    (void)state;
    return hb_folder_remove(folder);
}

/* The path of `name` in the folder. 64 results are valid at a time. */
static inline const char *in_folder(const char *name)
{
    static char paths[64][256];
    static int next;
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline const char *write_bytes(const char *name, const void *bytes, size_t size)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline const char *write_text(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

#endif
