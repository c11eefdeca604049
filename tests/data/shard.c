#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/shard.h"
#include "folder.h"

static void build(const char *prefix, int32_t vocabulary, int commit)
{
    static const int32_t documents[3][4] = {{1, 2, 3, 0}, {0}, {9, 8, 0}};
    static const int64_t counts[3] = {4, 1, 3};
    struct hb_shard_writer *writer;
    assert_int_equal(hb_shard_writer_create(prefix, vocabulary, &writer), HB_OK);
    for (int d = 0; d < 3; d++)
        assert_int_equal(hb_shard_writer_add(writer, documents[d], counts[d]), HB_OK);
    assert_int_equal(hb_shard_writer_finish(writer), HB_OK);
    if (commit)
        assert_int_equal(hb_shard_writer_commit(writer), HB_OK);
    hb_shard_writer_destroy(writer);
}

static void check_content(const struct hb_shard *shard)
{
    static const int32_t all[8] = {1, 2, 3, 0, 0, 9, 8, 0};
    int32_t read[8];
    assert_int_equal(shard->tokens, 8);
    assert_int_equal(shard->documents, 3);
    assert_int_equal(hb_shard_begin(shard, 0), 0);
    assert_int_equal(hb_shard_begin(shard, 1), 4);
    assert_int_equal(hb_shard_begin(shard, 2), 5);
    assert_int_equal(hb_shard_begin(shard, 3), 8);
    for (int begin = 0; begin <= 8; begin++) {
        hb_shard_read(shard, begin, 8 - begin, read);
        assert_memory_equal(read, all + begin, (size_t)(8 - begin) * 4);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const int32_t vocabularies[] = {10, 65499, 65500, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        const char *prefix = in_folder("a");
        build(prefix, vocabularies[i], 1);
        struct hb_shard shard;
        assert_int_equal(hb_shard_init(prefix, &shard), HB_OK);
        assert_int_equal(shard.wide, i >= 2);
        check_content(&shard);
        hb_shard_release(&shard);
    }
}

/* The bytes as Megatron lays them out, written down by hand. */
static const unsigned char megatron_idx[34 + 3 * 4 + 3 * 8 + 4 * 8] = {
    'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0,                                               /* magic */
    1,   0,   0,   0,   0,   0,   0,   0,                                                  /* version */
    8,                                                                                     /* uint16 */
    3,   0,   0,   0,   0,   0,   0,   0,                                                  /* sequences */
    4,   0,   0,   0,   0,   0,   0,   0,                                                  /* documents + 1 */
    4,   0,   0,   0,   1,   0,   0,   0, 3, 0, 0, 0,                                      /* lengths */
    0,   0,   0,   0,   0,   0,   0,   0, 8, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, /* pointers */
    0,   0,   0,   0,   0,   0,   0,   0, 1, 0, 0, 0, 0, 0, 0, 0, 2,  0, 0, 0, 0, 0, 0, 0,
    3,   0,   0,   0,   0,   0,   0,   0, /* documents */
};
static const unsigned char megatron_bin[16] = {1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 9, 0, 8, 0, 0, 0};

static void test_exact_bytes(void **state)
{
    (void)state;
    build(in_folder("a"), 10, 1);
    char *bytes;
    size_t size;
    assert_int_equal(hb_file_read(in_folder("a.idx"), &bytes, &size), HB_OK);
    assert_int_equal(size, sizeof megatron_idx);
    assert_memory_equal(bytes, megatron_idx, size);
    free(bytes);
    assert_int_equal(hb_file_read(in_folder("a.bin"), &bytes, &size), HB_OK);
    assert_int_equal(size, sizeof megatron_bin);
    assert_memory_equal(bytes, megatron_bin, size);
    free(bytes);
}

static void write_pair(const unsigned char *idx, size_t idx_size, size_t bin_size)
{
    unsigned char bin[64] = {0};
    memcpy(bin, megatron_bin, sizeof megatron_bin);
    write_bytes("m.bin", bin, bin_size);
    write_bytes("m.idx", idx, idx_size);
}

static void expect_refusal(hb_status code, const char *part)
{
    struct hb_shard shard;
    hb_status status = hb_shard_init(in_folder("m"), &shard);
    if (status == HB_OK)
        fail_msg("accepted, expected '%s'", part);
    if (status != code || !strstr(hb_error(), part))
        fail_msg("%d '%s' is not %d '%s'", status, hb_error(), code, part);
}

static void test_truncated(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof megatron_idx; cut++) {
        write_pair(megatron_idx, cut, sizeof megatron_bin);
        expect_refusal(HB_EFORMAT, "m.idx is cut short");
    }
    for (size_t cut = 0; cut < sizeof megatron_bin; cut++) {
        write_pair(megatron_idx, sizeof megatron_idx, cut);
        expect_refusal(HB_EFORMAT, "m.bin is cut short");
    }
    write_pair(megatron_idx, sizeof megatron_idx, 18);
    expect_refusal(HB_EFORMAT, "do not belong together");
    unsigned char longer[sizeof megatron_idx + 5] = {0};
    memcpy(longer, megatron_idx, sizeof megatron_idx);
    write_pair(longer, sizeof longer, sizeof megatron_bin);
    expect_refusal(HB_EFORMAT, "5 bytes too many");
    write_pair(longer, sizeof megatron_idx + 3, sizeof megatron_bin); /* a table of modes */
    expect_refusal(HB_EUNSUPPORTED, "multimodal");
}

static void lie(size_t at, uint64_t value, size_t width, hb_status code, const char *part)
{
    unsigned char idx[sizeof megatron_idx];
    memcpy(idx, megatron_idx, sizeof idx);
    for (size_t i = 0; i < width; i++)
        idx[at + i] = (unsigned char)(value >> 8 * i);
    write_pair(idx, sizeof idx, sizeof megatron_bin);
    expect_refusal(code, part);
}

static void test_lies(void **state)
{
    (void)state;
    lie(0, 'X', 1, HB_EFORMAT, "does not start with MMIDIDX");
    lie(8, 1, 1, HB_EFORMAT, "does not start with MMIDIDX");
    lie(9, 2, 8, HB_EFORMAT, "version 2");
    lie(17, 5, 1, HB_EUNSUPPORTED, "dtype code 5");
    lie(17, 4, 1, HB_EFORMAT, "said to start at byte 8"); /* int32: all pointers are wrong */
    lie(18, UINT64_MAX, 8, HB_EFORMAT, "cut short");
    lie(18, UINT64_MAX / 12 + 1, 8, HB_EFORMAT, "cut short"); /* times 12 it wraps to a few bytes */
    lie(18, 2, 8, HB_EFORMAT, "12 bytes too many");
    lie(26, UINT64_MAX / 8 + 2, 8, HB_EFORMAT, "cut short");
    lie(26, 0, 8, HB_EFORMAT, "bytes too many");
    lie(34, 0xffffffff, 4, HB_EFORMAT, "sequence 0 has a negative length");
    lie(34, 0x7fffffff, 4, HB_EFORMAT, "m.bin is cut short");
    lie(34, 5, 4, HB_EFORMAT, "sequence 1 is said to start at byte 8");
    lie(42, 4, 4, HB_EFORMAT, "m.bin is cut short");
    lie(42, 2, 4, HB_EFORMAT, "do not belong together");
    lie(46 + 8, 1, 8, HB_EFORMAT, "sequence 1 is said to start at byte 1 "); /* between two tokens */
    lie(46 + 16, UINT64_MAX - 1, 8, HB_EFORMAT, "sequence 2 is said to start at byte 18446744073709551614");
    lie(70, 1, 8, HB_EFORMAT, "document 0 is said to start at sequence 1");
    lie(78, 3, 8, HB_EFORMAT, "document 2 is said to start at sequence 2");
    lie(86, UINT64_MAX, 8, HB_EFORMAT, "document 2 is said to start");
    lie(94, 2, 8, HB_EFORMAT, "the documents end at sequence 2 of 3");
}

/* Every byte of the index set to every value must be refused, or leave a shard
 * that can be read to its end without leaving the map (the sanitizers watch). */
static void test_every_byte(void **state)
{
    (void)state;
    static const unsigned char values[] = {0, 1, 2, 4, 8, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < sizeof megatron_idx; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            unsigned char idx[sizeof megatron_idx];
            memcpy(idx, megatron_idx, sizeof idx);
            idx[at] = values[v];
            write_pair(idx, sizeof idx, sizeof megatron_bin);
            struct hb_shard shard;
            if (hb_shard_init(in_folder("m"), &shard) != HB_OK)
                continue;
            for (int64_t d = 0; d < shard.documents; d++) {
                int32_t tokens[8];
                int64_t begin = hb_shard_begin(&shard, d), end = hb_shard_begin(&shard, d + 1);
                assert_true(begin >= 0 && begin <= end && end <= 8);
                hb_shard_read(&shard, begin, end - begin, tokens);
            }
            hb_shard_release(&shard);
        }
    }
}

static void test_several_sequences(void **state)
{
    (void)state;
    unsigned char idx[sizeof megatron_idx];
    memcpy(idx, megatron_idx, sizeof idx);
    idx[78] = 0; /* document 0 is empty, document 1 is sequences 0 and 1 */
    write_pair(idx, sizeof idx, sizeof megatron_bin);
    struct hb_shard shard;
    assert_int_equal(hb_shard_init(in_folder("m"), &shard), HB_OK);
    assert_int_equal(hb_shard_begin(&shard, 1), 0);
    assert_int_equal(hb_shard_begin(&shard, 2), 5);
    hb_shard_release(&shard);
}

static void test_empty(void **state)
{
    (void)state;
    struct hb_shard_writer *writer;
    assert_int_equal(hb_shard_writer_create(in_folder("a"), 10, &writer), HB_OK);
    assert_int_equal(hb_shard_writer_finish(writer), HB_OK);
    assert_int_equal(hb_shard_writer_commit(writer), HB_OK);
    hb_shard_writer_destroy(writer);
    struct hb_shard shard;
    assert_int_equal(hb_shard_init(in_folder("a"), &shard), HB_OK);
    assert_int_equal(shard.documents, 0);
    assert_int_equal(shard.tokens, 0);
    assert_int_equal(hb_shard_begin(&shard, 0), 0);
    hb_shard_release(&shard);
}

static void test_bad_tokens(void **state)
{
    (void)state;
    struct hb_shard_writer *writer;
    assert_int_equal(hb_shard_writer_create(in_folder("a"), 10, &writer), HB_OK);
    assert_int_equal(hb_shard_writer_add(writer, (const int32_t[]){3, 10}, 2), HB_EARGUMENT);
    assert_int_equal(hb_shard_writer_add(writer, (const int32_t[]){-1}, 1), HB_EARGUMENT);
    assert_int_equal(hb_shard_writer_add(writer, NULL, 0), HB_EARGUMENT);
    hb_shard_writer_destroy(writer);
    assert_int_equal(hb_shard_writer_create(in_folder("a"), 0, &writer), HB_EARGUMENT);
}

static void test_nothing_without_commit(void **state)
{
    (void)state;
    build(in_folder("a"), 10, 0);
    assert_false(hb_file_exists(in_folder("a.bin")));
    assert_false(hb_file_exists(in_folder("a.idx")));
    assert_int_equal(rmdir(folder), 0); /* no temporary file either */
}

/* A full disk, as the limit on the size of files. */
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct hb_shard_writer *writer;
    hb_status status = hb_shard_writer_create(in_folder("a"), 70000, &writer);
    assert_int_equal(status, HB_OK);
    static int32_t tokens[100000];
    for (int i = 0; i < 20 && status == HB_OK; i++)
        status = hb_shard_writer_add(writer, tokens, 100000);
    hb_shard_writer_destroy(writer);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, HB_EIO);
    assert_non_null(strstr(hb_error(), "a.bin"));
    assert_int_equal(rmdir(folder), 0);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_round_trip), IN_FOLDER(test_exact_bytes), IN_FOLDER(test_truncated),
        IN_FOLDER(test_lies),       IN_FOLDER(test_every_byte),  IN_FOLDER(test_several_sequences),
        IN_FOLDER(test_empty),      IN_FOLDER(test_bad_tokens),  IN_FOLDER(test_nothing_without_commit),
        IN_FOLDER(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
