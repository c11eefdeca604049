#include "core/file.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/file_receipt.h"
#include "core/file_writer.h"
#include "scratch.h"

static void check_content(const char *path, const void *expected, size_t expected_size)
{
    char *data;
    size_t size;
    OK(hb_file_read(path, &data, &size));
    assert_int_equal(size, expected_size);
    assert_memory_equal(data, expected, size);
    assert_int_equal(data[size], 0);
    free(data);
}

static void read_and_write(void **state)
{
    (void)state;
    const char *path = scratch("file");
    OK(hb_file_write(path, "", 0));
    check_content(path, "", 0);
    OK(hb_file_write(path, "a\0b", 3));
    check_content(path, "a\0b", 3);
    static char large[300001];
    memset(large, 'x', sizeof large);
    OK(hb_file_write(path, large, sizeof large));
    check_content(path, large, sizeof large);

    char *data;
    size_t size;
    REFUSED(hb_file_read(scratch("missing"), &data, &size), HB_EIO, "No such file");
    assert_null(data);
    REFUSED(hb_file_read(scratch_folder, &data, &size), HB_EIO, "cannot read");
    REFUSED(hb_file_write(scratch("no/file"), "x", 1), HB_EIO, "cannot create");
    unlink(path);
    assert_int_equal(scratch_count(scratch_folder), 0);
}

static void reads_a_pipe(void **state)
{
    (void)state;
    const char *path = scratch("pipe");
    static char large[200000];
    memset(large, 'p', sizeof large);
    assert_int_equal(mkfifo(path, 0600), 0);
    pid_t child = fork();
    if (child == 0) {
        FILE *file = fopen(path, "wb");
        _exit(file && fwrite(large, 1, sizeof large, file) == sizeof large && fclose(file) == 0 ? 0 : 1);
    }
    check_content(path, large, sizeof large);
    int code;
    waitpid(child, &code, 0);
    assert_int_equal(code, 0);
    struct hb_file_map map;
    unlink(path);
    REFUSED(hb_file_map(scratch_folder, &map), HB_EFORMAT, "not a regular file");
}

static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    const char *path = scratch("file");
    static char large[100000];
    OK(hb_file_write(path, "old", 3));
    struct hb_file_writer *writer;
    OK(hb_file_writer_create(path, &writer));
    scratch_limit_files(50000);
    hb_status whole = hb_file_write(path, large, sizeof large);
    hb_status piece = hb_file_writer_write(writer, large, sizeof large);
    hb_status smaller = hb_file_writer_write(writer, large, 1);
    scratch_limit_files(0);
    (void)smaller; /* whether it went through or not, a piece is missing */
    assert_int_equal(whole, HB_EIO);
    REFUSED(piece, HB_EIO, "");
    REFUSED(hb_file_writer_commit(writer), HB_EIO, "earlier piece");
    hb_file_writer_destroy(writer);
    check_content(path, "old", 3);
    assert_int_equal(scratch_count(scratch_folder), 1);

    errno = ENOSPC;
    REFUSED(hb_file_fail("write", "x"), HB_EIO, "free some space");
    unlink(path);
}

static void writer_appears_at_commit(void **state)
{
    (void)state;
    const char *path = scratch("file");
    struct hb_file_writer *writer;
    OK(hb_file_writer_create(path, &writer));
    OK(hb_file_writer_write(writer, "one ", 4));
    assert_false(hb_file_exists(path));
    OK(hb_file_writer_write(writer, "two", 3));
    OK(hb_file_writer_commit(writer));
    hb_file_writer_destroy(writer);
    check_content(path, "one two", 7);
    assert_int_equal(scratch_count(scratch_folder), 1);

    OK(hb_file_writer_create(path, &writer));
    OK(hb_file_writer_write(writer, "three", 5));
    hb_file_writer_destroy(writer);
    check_content(path, "one two", 7);
    assert_int_equal(scratch_count(scratch_folder), 1);

    /* Against the one-shot function in the canonical byte order of the hash, and a published value. */
    XXH128_canonical_t canonical;
    char expected[33];
    XXH128_canonicalFromHash(&canonical, XXH3_128bits("one two", 7));
    for (int i = 0; i < 16; i++)
        snprintf(expected + 2 * i, 3, "%02x", canonical.digest[i]);
    struct hb_file_receipt receipt;
    OK(hb_file_receipt(path, &receipt));
    assert_int_equal(receipt.bytes, 7);
    assert_string_equal(receipt.hash, expected);
    OK(hb_file_receipt(scratch_write("empty", "", 0), &receipt));
    assert_string_equal(receipt.hash, "99aa06d3014798d86001c324468d497f");
    REFUSED(hb_file_receipt(scratch_folder, &receipt), HB_EIO, "cannot read");
    unlink(path);
    unlink(scratch("empty"));
}

static void maps(void **state)
{
    (void)state;
    struct hb_file_map map;
    OK(hb_file_map(scratch_write("file", "content", 7), &map));
    assert_int_equal(map.size, 7);
    assert_memory_equal(map.data, "content", 7);
    hb_file_unmap(&map);
    assert_null(map.data);
    OK(hb_file_map(scratch_write("file", "", 0), &map));
    assert_int_equal(map.size, 0);
    assert_null(map.data);
    hb_file_unmap(&map);
    unlink(scratch("file"));
    REFUSED(hb_file_map(scratch("file"), &map), HB_EIO, "cannot open");
}

static void folders(void **state)
{
    (void)state;
    const char *deep = scratch("a/b//c/");
    OK(hb_folder_create(deep));
    OK(hb_folder_create(deep));
    assert_true(hb_file_is_folder(scratch("a/b/c")));
    OK(hb_folder_sync(deep));
    scratch_write("a/b/file", "x", 1);
    assert_false(hb_file_is_folder(scratch("a/b/file")));
    REFUSED(hb_folder_create(scratch("a/b/file/d")), HB_EIO, "cannot create the folder");
    assert_int_equal(symlink("nowhere", scratch("a/link")), 0);
    REFUSED(hb_folder_create(scratch("a/link")), HB_EIO, "a/link: File exists");
    REFUSED(hb_folder_sync(scratch("a/x")), HB_EIO, "cannot open the folder");

    /* A link out of the folder is removed, what it points to is not. */
    OK(hb_folder_create(scratch("kept")));
    scratch_write("kept/file", "x", 1);
    assert_int_equal(symlink(scratch("kept"), scratch("a/b/link")), 0);
    OK(hb_folder_remove(scratch("a")));
    assert_false(hb_file_exists(scratch("a")));
    assert_true(hb_file_exists(scratch("kept/file")));
    OK(hb_folder_remove(scratch("a")));
    OK(hb_folder_remove(scratch("kept")));
}

static void paths(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = hb_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

static void locks(void **state)
{
    (void)state;
    const char *path = scratch("lock");
    int first, second;
    char holder[32];
    OK(hb_lock_take(path, &first));
    snprintf(holder, sizeof holder, "process %ld;", (long)getpid());
    REFUSED(hb_lock_take(path, &second), HB_EEXIST, holder);
    REFUSED(hb_lock_take(path, &second), HB_EEXIST, path);
    assert_int_equal(second, -1);
    pid_t child = fork();
    if (child == 0) {
        int mine;
        _exit(hb_lock_take(path, &mine) == HB_EEXIST && strstr(hb_error(), holder) ? 0 : 1);
    }
    int code;
    waitpid(child, &code, 0);
    assert_int_equal(code, 0);
    hb_lock_release(first);
    hb_lock_release(-1);

    /* A holder that dies lets go. */
    child = fork();
    if (child == 0) {
        int mine;
        _exit(hb_lock_take(path, &mine) == HB_OK ? 0 : 1);
    }
    waitpid(child, &code, 0);
    assert_int_equal(code, 0);
    OK(hb_lock_take(path, &second));
    hb_lock_release(second);
    REFUSED(hb_lock_take(scratch("no/lock"), &second), HB_EIO, "cannot open the lock");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_and_write),
        cmocka_unit_test(reads_a_pipe),
        cmocka_unit_test(full_disk_keeps_the_old_file),
        cmocka_unit_test(writer_appears_at_commit),
        cmocka_unit_test(maps),
        cmocka_unit_test(folders),
        cmocka_unit_test(paths),
        cmocka_unit_test(locks),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
