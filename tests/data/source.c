#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <zlib.h>
#include <zstd.h>

#include "data/source.h"
#include "data/utf8.h"
#include "folder.h"

/* Reads everything as "id=text|id=text|..." (ids without the folder), or gives
 * the status of the failure. */
static hb_status read_all(const struct hb_source_options *options, char *out, size_t size,
                          struct hb_source_counts *counts)
{
    struct hb_source *source;
    hb_status status = hb_source_create(options, &source);
    out[0] = '\0';
    if (status != HB_OK)
        return status;
    size_t used = 0;
    for (;;) {
        struct hb_document d;
        bool end;
        status = hb_source_next(source, &d, &end);
        if (status != HB_OK || end)
            break;
        const char *id = strncmp(d.id, folder, strlen(folder)) == 0 ? d.id + strlen(folder) + 1 : d.id;
        used += (size_t)snprintf(out + used, size - used, "%zu %s=%.*s|", d.input, id, (int)d.size,
                                 (const char *)d.text);
        assert_true(used < size);
    }
    if (counts)
        *counts = *hb_source_counts(source);
    hb_source_destroy(source);
    return status;
}

static void expect(const char *path, const char *expected)
{
    char out[4096];
    struct hb_source_options options = {.inputs = &path, .input_count = 1};
    hb_status status = read_all(&options, out, sizeof out, NULL);
    if (status != HB_OK)
        fail_msg("%s", hb_error());
    assert_string_equal(out, expected);
}

static void expect_failure(const char *path, hb_status code, const char *part)
{
    char out[4096];
    struct hb_source_options options = {.inputs = &path, .input_count = 1};
    assert_int_equal(read_all(&options, out, sizeof out, NULL), code);
    if (!strstr(hb_error(), part))
        fail_msg("'%s' does not say '%s'", hb_error(), part);
}

static void test_text(void **state)
{
    (void)state;
    expect(write_text("a.txt", "one\ntwo"), "0 a.txt=one\ntwo|");
    expect(write_text("bom.txt", "\xef\xbb\xbfone"), "0 bom.txt=one|");
    expect(write_text("marks.txt",
                      "one\n<|endoftext|>\ntwo\n<|endoftext|> \n<|endoftext|>\r\nthree\n<|endoftext|>"),
           "0 marks.txt=one\n|0 marks.txt#2=two\n<|endoftext|> \n|0 marks.txt#3=three\n|");

    const char *path = write_bytes("nul.txt", "a\0b", 3);
    struct hb_source_options options = {.inputs = &path, .input_count = 1};
    struct hb_source *source;
    struct hb_document document;
    bool end;
    assert_int_equal(hb_source_create(&options, &source), HB_OK);
    assert_int_equal(hb_source_next(source, &document, &end), HB_OK);
    assert_int_equal(document.size, 3);
    assert_memory_equal(document.text, "a\0b", 3);
    hb_source_destroy(source);
}

static void test_long_lines(void **state)
{
    (void)state;
    /* Longer than the reader's buffers, with a mark that straddles their edge. */
    size_t size = (1 << 20) + 200;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text + (1 << 20) - 6, "\n<|endoftext|>\n", 15);
    const char *path = write_bytes("long.txt", text, size);
    struct hb_source_options options = {.inputs = &path, .input_count = 1};
    struct hb_source *source;
    struct hb_document document;
    bool end;
    assert_int_equal(hb_source_create(&options, &source), HB_OK);
    assert_int_equal(hb_source_next(source, &document, &end), HB_OK);
    assert_int_equal(document.size, (1 << 20) - 5);
    assert_int_equal(hb_source_next(source, &document, &end), HB_OK);
    assert_int_equal(document.size, size - (1 << 20) - 9);
    assert_int_equal(hb_source_next(source, &document, &end), HB_OK);
    assert_true(end);
    hb_source_destroy(source);
    free(text);
}

static void test_records(void **state)
{
    (void)state;
    expect(write_text("a.jsonl", "{\"text\": \"one\", \"id\": \"x1\", \"other\": [1, {}]}\n"
                                 "\n \t\r\n"
                                 "{\"id\": 42, \"text\": \"\\u4f60\\ud83d\\ude00\"}\r\n"
                                 "{\"text\": \"\"}\n"
                                 "{\"text\": \"last\", \"id\": null}"),
           "0 x1=one|0 42=\u4f60\U0001f600|0 a.jsonl:6=last|");
    expect(write_text("bom.jsonl", "\xef\xbb\xbf{\"text\": \"one\"}\n"), "0 bom.jsonl:1=one|");
    expect(write_text("empty.jsonl", ""), "");
}

static void test_record_failures(void **state)
{
    (void)state;
    expect_failure(write_text("a.jsonl", "{\"text\": \"fine\"}\n{\"text\": 5}\n"), HB_EFORMAT,
                   "a.jsonl:2: no \"text\"");
    expect_failure(write_text("b.jsonl", "{\"body\": \"x\"}\n"), HB_EFORMAT, "b.jsonl:1: no \"text\"");
    expect_failure(write_text("c.jsonl", "\n{\"text\": \"x\"\n"), HB_EFORMAT, "c.jsonl:2");
    expect_failure(write_text("d.jsonl", "{\"text\": \"\xff\"}\n"), HB_EFORMAT,
                   "d.jsonl:1: invalid UTF-8 at byte 10");
    expect_failure(write_text("e.jsonl", "{\"text\": \"\\ud800\"}\n"), HB_EFORMAT, "e.jsonl:1");
    expect_failure(write_text("f.jsonl", "{\"text\": \"x\", \"id\": 1.5}\n"), HB_EFORMAT,
                   "f.jsonl:1: \"id\"");
    expect_failure(write_text("g.jsonl", "[\"text\"]\n"), HB_EFORMAT, "g.jsonl:1: no \"text\"");
    expect_failure(write_text("h.jsonl", "{\"text\": \"x\"} trailing\n"), HB_EFORMAT, "h.jsonl:1");
}

static void test_invalid_text(void **state)
{
    (void)state;
    expect_failure(write_text("a.txt", "fine\n\xe4\xbd\xa0\xe4\xbd"), HB_EFORMAT,
                   "a.txt: invalid UTF-8 at byte 8");
    expect_failure(write_text("b.txt", "\xef\xbb\xbfone\n<|endoftext|>\ntw\xc0\xaf"), HB_EFORMAT,
                   "b.txt: invalid UTF-8 at byte 23");
}

static void test_skip_invalid(void **state)
{
    (void)state;
    const char *paths[] = {
        write_text("a.txt", "one\n<|endoftext|>\n\xff\n<|endoftext|>\nthree\n"),
        write_text("b.jsonl", "{\"text\": \"x\"}\n{\"text\n{\"text\": \"\xfe\"}\n{\"text\": \"y\"}\n")};
    struct hb_source_options options = {.inputs = paths, .input_count = 2, .skip_invalid = true};
    char out[4096];
    struct hb_source_counts counts;
    assert_int_equal(read_all(&options, out, sizeof out, &counts), HB_OK);
    assert_string_equal(out, "0 a.txt=one\n|0 a.txt#3=three\n|1 b.jsonl:1=x|1 b.jsonl:4=y|");
    assert_int_equal(counts.invalid, 3);
    assert_int_equal(counts.files, 2);
    assert_non_null(strstr(counts.first_invalid, "a.txt: invalid UTF-8 at byte 18"));
}

static void test_empty(void **state)
{
    (void)state;
    const char *path = write_text("a.txt", "<|endoftext|>\nx\n<|endoftext|>\n<|endoftext|>\n");
    struct hb_source_options options = {.inputs = &path, .input_count = 1};
    char out[4096];
    struct hb_source_counts counts;
    assert_int_equal(read_all(&options, out, sizeof out, &counts), HB_OK);
    assert_string_equal(out, "0 a.txt#2=x\n|");
    assert_int_equal(counts.empty, 2);
    path = write_text("b.txt", "");
    assert_int_equal(read_all(&options, out, sizeof out, &counts), HB_OK);
    assert_int_equal(counts.empty, 1);
}

static void test_folders(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("in"), 0777), 0);
    assert_int_equal(mkdir(in_folder("in/b"), 0777), 0);
    assert_int_equal(mkdir(in_folder("in/.hidden"), 0777), 0);
    write_text("in/b/z.txt", "4");
    write_text("in/b/a.jsonl", "{\"text\": \"3\"}");
    write_text("in/b-.txt", "2"); /* '-' sorts before '/' */
    write_text("in/a", "1");
    write_text("in/.hidden.txt", "no");
    write_text("in/.hidden/x.txt", "no");
    assert_int_equal(symlink("..", in_folder("in/b/up")), 0); /* would never end */
    assert_int_equal(symlink("b/z.txt", in_folder("in/c.txt")), 0);
    expect(in_folder("in"), "0 in/a=1|0 in/b-.txt=2|0 in/b/a.jsonl:1=3|0 in/b/z.txt=4|0 in/c.txt=4|");

    const char *paths[] = {in_folder("in/b/z.txt"), in_folder("in/b")};
    struct hb_source_options options = {.inputs = paths, .input_count = 2};
    char out[4096];
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_OK);
    assert_string_equal(out, "0 in/b/z.txt=4|1 in/b/a.jsonl:1=3|1 in/b/z.txt=4|");

    assert_int_equal(mkdir(in_folder("none"), 0777), 0);
    expect_failure(in_folder("none"), HB_EARGUMENT, "holds no files");
    expect_failure(in_folder("missing.txt"), HB_EIO, "missing.txt");
    expect_failure("/dev/null", HB_EARGUMENT, "neither a file nor a folder");
}

static size_t gzip(const char *text, size_t size, unsigned char *out, size_t room)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)text,
                  .avail_in = (uInt)size,
                  .next_out = out,
                  .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

/* Two members (frames), every truncation, every single flipped byte. */
static void check_packed(const char *name, const unsigned char *packed, size_t first, size_t size,
                         const char *whole, const char *half)
{
    expect(write_bytes(name, packed, size), whole);
    for (size_t cut = 0; cut < size; cut++) {
        const char *path = write_bytes(name, packed, cut);
        if (cut == first)
            expect(path, half);
        else
            expect_failure(path, HB_EFORMAT, name);
    }
}

static void test_gzip(void **state)
{
    (void)state;
    unsigned char packed[512];
    size_t first = gzip("one\n", 4, packed, sizeof packed);
    size_t size = first + gzip("two", 3, packed + first, sizeof packed - first);
    check_packed("a.txt.gz", packed, first, size, "0 a.txt.gz=one\ntwo|", "0 a.txt.gz=one\n|");
    packed[first - 5] ^= 1; /* its checksum */
    expect_failure(write_bytes("a.txt.gz", packed, size), HB_EFORMAT, "damaged gzip");
    expect_failure(write_text("plain.gz", "not packed at all"), HB_EFORMAT, "damaged gzip");

    const char lines[] = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    size = gzip(lines, sizeof lines - 1, packed, sizeof packed);
    expect(write_bytes("a.jsonl.gz", packed, size), "0 a.jsonl.gz:1=one|0 a.jsonl.gz:2=two|");
}

static void test_zstd(void **state)
{
    (void)state;
    unsigned char packed[512];
    size_t first = ZSTD_compress(packed, sizeof packed, "one\n", 4, 3);
    size_t size = first + ZSTD_compress(packed + first, sizeof packed - first, "two", 3, 3);
    check_packed("a.txt.zst", packed, first, size, "0 a.txt.zst=one\ntwo|", "0 a.txt.zst=one\n|");
    expect_failure(write_text("plain.zst", "not packed at all"), HB_EFORMAT, "damaged zstd");

    const char lines[] = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    size = ZSTD_compress(packed, sizeof packed, lines, sizeof lines - 1, 3);
    expect(write_bytes("a.jsonl.zst", packed, size), "0 a.jsonl.zst:1=one|0 a.jsonl.zst:2=two|");
}

static void test_limit(void **state)
{
    (void)state;
    const char *path = write_text("a.txt", "12345678\n<|endoftext|>\n123456789\n");
    struct hb_source_options options = {.inputs = &path, .input_count = 1, .limit = 23};
    char out[4096];
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_OK);
    options.limit = 22; /* the mark counts while it is being read */
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "longer than 22 bytes"));
    options.skip_invalid = true; /* a limit is no broken document */
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_EFORMAT);
    path = write_text("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"12345678901234567890\"}\n");
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "a.jsonl:2: the line is longer"));
}

/* A megabyte of packed zeros claims a gigabyte: it ends at the limit, in bounded memory. */
static void test_bomb(void **state)
{
    (void)state;
    size_t size = (size_t)64 << 20;
    char *zeros = calloc(size, 1);
    unsigned char *packed = malloc(1 << 20);
    assert_non_null(zeros);
    assert_non_null(packed);
    size_t packed_size = gzip(zeros, size, packed, 1 << 20);
    const char *path = write_bytes("bomb.jsonl.gz", packed, packed_size);
    struct hb_source_options options = {.inputs = &path, .input_count = 1, .limit = 1 << 20};
    char out[64];
    assert_int_equal(read_all(&options, out, sizeof out, NULL), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "bomb.jsonl.gz:1: the line is longer"));
    free(packed);
    free(zeros);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"", 0},
        {"plain ASCII of some length", 26},
        {"\xc2\x80\xdf\xbf", 4},
        {"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80", 9},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8},
        {"a\xc1\x81", 1},
        {"a\xe0\x9f\xbf", 1},
        {"a\xed\xa0\x80", 1},
        {"a\xf0\x8f\xbf\xbf", 1},
        {"a\xf4\x90\x80\x80", 1},
        {"a\xf5\x80\x80\x80", 1},
        {"12345678\x80", 8},
        {"ab\xe4\xbd", 2},
        {"ab\xe4\xbd ", 2},
        {"ab\xf0\x9f\x98", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(hb_utf8_valid_bytes(cases[i].text, strlen(cases[i].text)), cases[i].valid);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_text),         IN_FOLDER(test_long_lines),
        IN_FOLDER(test_records),      IN_FOLDER(test_record_failures),
        IN_FOLDER(test_invalid_text), IN_FOLDER(test_skip_invalid),
        IN_FOLDER(test_empty),        IN_FOLDER(test_folders),
        IN_FOLDER(test_gzip),         IN_FOLDER(test_zstd),
        IN_FOLDER(test_limit),        IN_FOLDER(test_bomb),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
