/* A temporary folder for one test program, and small files in it. */
#ifndef HB_TESTS_CORE_SCRATCH_H
#define HB_TESTS_CORE_SCRATCH_H

#include <dirent.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>

#include <cmocka.h>

#include "core/file.h"

#define OK(call) scratch_ok((call), #call, __LINE__)
#define REFUSED(call, code, part) scratch_refused((call), (code), (part), #call, __LINE__)

static char scratch_folder[] = "/tmp/hornbook-test-XXXXXX";

static inline void scratch_ok(hb_status status, const char *what, int line)
{
    if (status != HB_OK)
        fail_msg("line %d: %s: %s", line, what, hb_error());
}

/* The status must be `code` and the message hold `part`. */
static inline void scratch_refused(hb_status status, hb_status code, const char *part, const char *what,
                                   int line)
{
    if (status != code || !strstr(hb_error(), part))
        fail_msg("line %d: %s gave %d \"%s\", wanted %d \"...%s...\"", line, what, status,
                 status ? hb_error() : "", code, part);
}

static inline int scratch_setup(void **state)
{
    (void)state;
    return mkdtemp(scratch_folder) ? 0 : -1;
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    return hb_folder_remove(scratch_folder) == HB_OK ? 0 : -1;
}

/* The path of `name` in the folder; four of them may be in use at once. */
static inline const char *scratch(const char *name)
{
    static char paths[4][256];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline const char *scratch_write(const char *name, const void *data, size_t size)
{
    const char *path = scratch(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline int scratch_count(const char *folder)
{
    int count = 0;
    DIR *open = opendir(folder);
    assert_non_null(open);
    while (readdir(open))
        count++;
    closedir(open);
    return count - 2;
}

/* From now on no file may grow beyond `bytes` (0: as far as it likes): what a
 * full disk looks like to a program. */
static inline void scratch_limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    signal(SIGXFSZ, bytes ? SIG_IGN : SIG_DFL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

#endif
