#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file_writer.h"

hb_status hb_file_fail(const char *verb, const char *path)
{
    int code = errno;
    bool full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return HB_FAIL(code == ENOMEM ? HB_EMEMORY : HB_EIO, "cannot %s %s: %s%s", verb, path, strerror(code),
                   full ? "; free some space or choose another folder" : "");
}

static int open_again(const char *path, int flags)
{
    int handle;
    do
        handle = open(path, flags | O_CLOEXEC, 0666);
    while (handle < 0 && errno == EINTR);
    return handle;
}

/* Reads until the end or until `limit` bytes; -1 with errno on failure. */
static ssize_t read_up_to(int handle, char *to, size_t limit)
{
    size_t done = 0;
    while (done < limit) {
        ssize_t n = read(handle, to + done, limit - done);
        if (n == 0)
            break;
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)done;
}

hb_status hb_file_read(const char *path, char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    int handle = open_again(path, O_RDONLY);
    if (handle < 0)
        return hb_file_fail("open", path);

    hb_status status = HB_OK;
    char *buffer = NULL;
    size_t used = 0, room = 0;
    struct stat info;
    if (fstat(handle, &info) != 0) {
        status = hb_file_fail("read", path);
        goto cleanup;
    }
    /* The size is only a first guess: a pipe says 0, a log may grow. One byte
     * more than it lets the common case end with a single pass. */
    size_t step = info.st_size > 0 ? (size_t)info.st_size + 1 : 65536;
    for (;;) {
        char *larger = step < SIZE_MAX - room ? realloc(buffer, room + step + 1) : NULL;
        if (!larger) {
            status =
                HB_FAIL(HB_EMEMORY, "out of memory: cannot hold %s, %zu bytes or more", path, room + step);
            goto cleanup;
        }
        buffer = larger;
        room += step;
        ssize_t n = read_up_to(handle, buffer + used, room - used);
        if (n < 0) {
            status = hb_file_fail("read", path);
            goto cleanup;
        }
        used += (size_t)n;
        if (used < room)
            break;
        step = room;
    }
    buffer[used] = '\0';
    *data = buffer;
    *size = used;
    buffer = NULL;
cleanup:
    free(buffer);
    close(handle);
    return status;
}

hb_status hb_file_write(const char *path, const void *data, size_t size)
{
    struct hb_file_writer *writer;
    HB_TRY(hb_file_writer_create(path, &writer));
    hb_status status = hb_file_writer_write(writer, data, size);
    if (status == HB_OK)
        status = hb_file_writer_commit(writer);
    hb_file_writer_destroy(writer);
    return status;
}

hb_status hb_file_map(const char *path, struct hb_file_map *out)
{
    *out = (struct hb_file_map){NULL, 0};
    int handle = open_again(path, O_RDONLY);
    if (handle < 0)
        return hb_file_fail("open", path);
    hb_status status = HB_OK;
    struct stat info;
    if (fstat(handle, &info) != 0) {
        status = hb_file_fail("read", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = HB_FAIL(HB_EFORMAT, "%s is not a regular file; only those can be mapped", path);
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, handle, 0);
        if (data == MAP_FAILED)
            status = hb_file_fail("map", path);
        else
            *out = (struct hb_file_map){data, (size_t)info.st_size};
    }
    close(handle);
    return status;
}

void hb_file_unmap(struct hb_file_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct hb_file_map){NULL, 0};
}

bool hb_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool hb_file_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

hb_status hb_folder_create(const char *path)
{
    char *part = strdup(path);
    if (!part)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot create the folder %s", path);
    hb_status status = HB_OK;
    /* Every prefix that ends before a '/', then the whole; a leading '/' is no name of its own. */
    for (char *end = part; *end && status == HB_OK;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = '\0';
        if (mkdir(part, 0777) != 0) {
            int why = errno; /* not what looking at it then says */
            if (!hb_file_is_folder(part)) {
                errno = why;
                status = hb_file_fail("create the folder", part);
            }
        }
        *end = kept;
    }
    free(part);
    return status;
}

/* Empties and removes `name` inside `parent`. Links are removed, never
 * followed. The number of open files bounds the depth. */
static int remove_tree(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    int handle = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = handle >= 0 ? fdopendir(handle) : NULL;
    if (!folder) {
        int code = errno;
        if (handle >= 0)
            close(handle);
        errno = code;
        return -1;
    }
    int result = 0;
    struct dirent *entry;
    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = remove_tree(handle, entry->d_name);
    if (errno != 0)
        result = -1;
    int code = errno;
    closedir(folder);
    errno = code;
    return result == 0 ? unlinkat(parent, name, AT_REMOVEDIR) : -1;
}

hb_status hb_folder_remove(const char *path)
{
    return remove_tree(AT_FDCWD, path) == 0 ? HB_OK : hb_file_fail("remove", path);
}

hb_status hb_folder_sync(const char *path)
{
    int handle = open_again(path, O_RDONLY | O_DIRECTORY);
    if (handle < 0)
        return hb_file_fail("open the folder", path);
    hb_status status = HB_OK;
    /* EINVAL: the file system has no such thing for folders, and nothing is lost. */
    if (fsync(handle) != 0 && errno != EINVAL)
        status = hb_file_fail("sync the folder", path);
    close(handle);
    return status;
}

char *hb_path_join(const char *a, const char *b)
{
    size_t length = strlen(a);
    if (b[0] == '/' || length == 0)
        return strdup(b);
    const char *between = a[length - 1] == '/' ? "" : "/";
    size_t size = length + strlen(b) + 2;
    char *joined = malloc(size);
    if (joined)
        snprintf(joined, size, "%s%s%s", a, between, b);
    return joined;
}

hb_status hb_lock_take(const char *path, int *handle)
{
    *handle = -1;
    int file = open_again(path, O_RDWR | O_CREAT);
    if (file < 0)
        return hb_file_fail("open the lock", path);
    /* flock belongs to the open file, not to the process: it also keeps two
     * runs inside one process apart, and the system drops it when we die. */
    int locked;
    do
        locked = flock(file, LOCK_EX | LOCK_NB);
    while (locked != 0 && errno == EINTR);
    if (locked != 0) {
        hb_status status;
        if (errno == EWOULDBLOCK) {
            char holder[32] = "";
            ssize_t n = read_up_to(file, holder, sizeof holder - 1);
            holder[n > 0 ? n : 0] = '\0';
            holder[strspn(holder, "0123456789")] = '\0';
            status = HB_FAIL(HB_EEXIST, "%s is locked by process %s; wait for it or stop it", path,
                             holder[0] ? holder : "(unknown)");
        } else {
            status = hb_file_fail("lock", path);
        }
        close(file);
        return status;
    }
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(file, 0) != 0 || pwrite(file, text, (size_t)length, 0) != length) {
        hb_status status = hb_file_fail("write the lock", path);
        close(file);
        return status;
    }
    *handle = file;
    return HB_OK;
}

void hb_lock_release(int handle)
{
    if (handle < 0)
        return;
    /* The file stays: removing it would let a third process lock a new one
     * while a second still waits at this one. Its text goes, so that it never
     * names a process that has left (a refusal here costs only that). */
    if (ftruncate(handle, 0) != 0)
        errno = 0;
    close(handle);
}
