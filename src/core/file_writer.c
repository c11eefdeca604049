#include "core/file_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

struct hb_file_writer {
    char *path;
    char *temporary; /* NULL once renamed */
    int handle;
    bool failed; /* a piece is missing: never to be committed */
};

hb_status hb_file_writer_create(const char *path, struct hb_file_writer **out)
{
    *out = NULL;
    struct hb_file_writer *writer = calloc(1, sizeof *writer);
    size_t size = strlen(path) + 32;
    char *temporary = malloc(size);
    char *copy = strdup(path);
    if (!writer || !temporary || !copy) {
        free(writer);
        free(temporary);
        free(copy);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", path);
    }
    /* The process id keeps two programs that write the same file apart. */
    snprintf(temporary, size, "%s.tmp%ld", path, (long)getpid());
    *writer = (struct hb_file_writer){copy, temporary, -1, false};
    writer->handle = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->handle < 0) {
        hb_status status = hb_file_fail("create", temporary);
        free(writer->temporary); /* not ours to remove */
        writer->temporary = NULL;
        hb_file_writer_destroy(writer);
        return status;
    }
    *out = writer;
    return HB_OK;
}

hb_status hb_file_writer_write(struct hb_file_writer *writer, const void *data, size_t size)
{
    const char *from = data;
    while (size > 0) {
        ssize_t n = write(writer->handle, from, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            writer->failed = true;
            return hb_file_fail("write", writer->path);
        }
        from += n;
        size -= (size_t)n;
    }
    return HB_OK;
}

static hb_status sync_folder_of(const char *path)
{
    char *folder = strdup(path);
    if (!folder)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0'; /* "/file" lies in "/" */
    hb_status status = hb_folder_sync(slash ? folder : ".");
    free(folder);
    return status;
}

hb_status hb_file_writer_commit(struct hb_file_writer *writer)
{
    if (writer->failed)
        return HB_FAIL(HB_EIO, "cannot write %s: an earlier piece of it could not be written", writer->path);
    /* Some file systems report a full disk only here, or even at close. */
    if (fsync(writer->handle) != 0)
        return hb_file_fail("write", writer->path);
    int closed = close(writer->handle);
    writer->handle = -1;
    if (closed != 0 || rename(writer->temporary, writer->path) != 0)
        return hb_file_fail("write", writer->path);
    free(writer->temporary);
    writer->temporary = NULL;
    return sync_folder_of(writer->path);
}

void hb_file_writer_destroy(struct hb_file_writer *writer)
{
    if (!writer)
        return;
    if (writer->handle >= 0)
        close(writer->handle);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}
