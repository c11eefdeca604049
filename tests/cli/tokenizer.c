/* hornbook tokenizer, as a user runs it. HB_PROGRAM names the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/file.h"

static char folder[] = "/tmp/hornbook-cli-XXXXXX";
static const char *program;

static int setup(void **state)
{
    (void)state;
    program = getenv("HB_PROGRAM");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return hb_folder_remove(folder);
}

static void write_in(const char *name, const void *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static char *read_in(const char *name, size_t *size)
{
    char path[256], *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (hb_file_read(path, &data, size) != HB_OK)
        fail_msg("%s", hb_error());
    return data;
}

/* Runs `hornbook tokenizer ARGUMENTS` in the folder, with `in` as its input. */
static int run(const char *arguments, const void *in, size_t size)
{
    write_in("in", in, size);
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && '%s' tokenizer %s < in > out 2> err", folder, program,
             arguments);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *arguments, const void *in, size_t size, const void *out, size_t out_size)
{
    int code = run(arguments, in, size);
    size_t n;
    char *got = read_in(code ? "err" : "out", &n);
    if (code)
        fail_msg("%s: exit %d: %s", arguments, code, got);
    assert_int_equal(n, out_size);
    assert_memory_equal(got, out, n);
    free(got);
}

static void expect_failure(const char *arguments, const char *in, int code, const char *part)
{
    assert_int_equal(run(arguments, in, strlen(in)), code);
    size_t n;
    char *err = read_in("err", &n);
    if (!strstr(err, part))
        fail_msg("%s: '%s' does not say '%s'", arguments, err, part);
    free(err);
}

static void train(void)
{
    static const char text[] =
        "the cat sat on the mat, the cat sat\nthe cat sat on the hat\n\xe7\x8c\xab\xe7\x8c\xab\n";
    write_in("text.txt", text, sizeof text - 1);
    assert_int_equal(run("train --vocab-size 264 --output tok text.txt", "", 0), 0);
}

static void test_train(void **state)
{
    (void)state;
    train();
    size_t n;
    char *out = read_in("out", &n);
    assert_non_null(strstr(out, "264 tokens from 1 texts"));
    free(out);
    char *err = read_in("err", &n);
    assert_int_equal(n, 0);
    free(err);
    /* A folder gives what its files give; a file that is no text is left out, and said so. */
    assert_int_equal(run("train --vocab-size 264 --output tok2 text.txt", "", 0), 0);
    write_in("tok/binary", "\xff\xfe\x00", 3);
    expect_failure("train --vocab-size 257 --output tok3 tok", "", 0, "left out 1 texts");
    size_t m;
    char *a = read_in("tok/tokenizer.json", &n), *b = read_in("tok2/tokenizer.json", &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static void test_plain(void **state)
{
    (void)state;
    train();
    expect("encode tok", "!\"", 2, "0 1\n", 4);
    expect("encode tok", "", 0, "\n", 1);
    expect("encode tok/tokenizer.json", "\0!", 2, "188 0\n", 6);
    expect("encode tok --special", "!<|endoftext|>", 14, "0 263\n", 6);
    expect("decode tok", "0 188\n0\t220 263 ", 16, "!\0! <|endoftext|>", 17);
    expect("decode tok", "", 0, "", 0);
    expect("decode tok", "187", 3, "\xff", 1); /* any ids, any bytes */
    static const char text[] = "the cat\r\n  \xe7\x8c\xab\xf0\x9f\x98\x80 a\0b\n\n";
    assert_int_equal(run("encode tok", text, sizeof text - 1), 0);
    size_t n;
    char *ids = read_in("out", &n);
    expect("decode tok", ids, n, text, sizeof text - 1);
    free(ids);
}

static void test_jsonl(void **state)
{
    (void)state;
    train();
    static const char lines[] = "{\"text\": \"!\\u0000\\\"\"}\n\n{\"text\": \"\"}\n{\"id\": 3, \"text\": "
                                "\"\\u732b\\ud83d\\ude00\\n\\\\\"}";
    static const char first[] = "{\"ids\": [0, 188, 1]}\n{\"ids\": []}\n";
    assert_int_equal(run("encode tok --jsonl", lines, sizeof lines - 1), 0);
    size_t n;
    char *ids = read_in("out", &n);
    assert_memory_equal(ids, first, sizeof first - 1);
    static const char back[] = "{\"text\": \"!\\u0000\\\"\"}\n{\"text\": \"\"}\n{\"text\": "
                               "\"\xe7\x8c\xab\xf0\x9f\x98\x80\\n\\\\\"}\n";
    expect("decode tok --jsonl", ids, n, back, sizeof back - 1);
    free(ids);
    expect("encode tok --jsonl --special", "{\"text\": \"<|endoftext|>\"}\n", 26, "{\"ids\": [263]}\n", 15);
}

static void test_bad_input(void **state)
{
    (void)state;
    train();
    expect_failure("encode tok", "ab\xff", 1, "byte 2");
    expect_failure("encode tok --jsonl", "{\"text\": \"a\"}\n{\"text\": \"\\ud800\"}\n", 1,
                   "standard input:2");
    expect_failure("encode tok --jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"\\udc00x\"}\n", 1,
                   "standard input:3");
    expect_failure("encode tok --jsonl", "{\"text\": \"\xff\"}\n", 1, "standard input:1");
    expect_failure("encode tok --jsonl", "{\"text\": 5}\n", 1, "standard input:1");
    expect_failure("encode tok --jsonl", "[1]\n", 1, "standard input:1");
    expect_failure("encode tok --jsonl", "{\"text\": \"a\n", 1, "standard input:1");
    expect_failure("decode tok", "1 x", 1, "byte 2");
    expect_failure("decode tok", "-1", 1, "byte 0");
    expect_failure("decode tok", "1,2", 1, "byte 0");
    expect_failure("decode tok", "99999999999999999999", 1, "byte 0");
    expect_failure("decode tok", "264", 1, "264");
    expect_failure("decode tok --jsonl", "{\"ids\": [1]}\n{\"ids\": [1.5]}\n", 1, "standard input:2");
    expect_failure("decode tok --jsonl", "{\"ids\": [187]}\n", 1, "UTF-8");
    expect_failure("encode nowhere", "", 1, "nowhere");
    expect_failure("train --vocab-size 256 --output t text.txt", "", 2, "from 257 to 1048576, got '256'");
    write_in("nothing", "", 0);
    expect_failure("train --vocab-size 300 --output t nothing", "", 1, "there is no text");
    expect_failure("train --vocab-size 300 --output t nowhere", "", 1, "nowhere");
}

static void test_usage(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "fly",
                                        "encode",
                                        "encode a b",
                                        "encode a --fast",
                                        "decode a --special",
                                        "train",
                                        "train --vocab-size 300 text",
                                        "train --output x text",
                                        "train --vocab-size 300 --output x",
                                        "train --vocab-size many --output x y",
                                        "train --vocab-size",
                                        "train --vocab-size -5 --output x y"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_failure(wrong[i], "", 2, "--help'");
        size_t n;
        char *out = read_in("out", &n);
        assert_int_equal(n, 0);
        free(out);
    }
    static const char *const help[] = {"--help", "encode --help", "decode --help", "train --help"};
    for (size_t i = 0; i < sizeof help / sizeof *help; i++) {
        assert_int_equal(run(help[i], "", 0), 0);
        size_t n;
        char *out = read_in("out", &n);
        assert_ptr_equal(strstr(out, "usage:"), out);
        free(out);
    }
}

/* What cannot be written is no success. */
static void test_full_disk(void **state)
{
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (!full) {
        print_message("skipped: this system has no /dev/full\n");
        skip();
    }
    fclose(full);
    train();
    write_in("in", "hello", 5);
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && '%s' tokenizer encode tok < in > /dev/full 2> err", folder,
             program);
    int status = system(command);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

int main(void)
{
    if (!getenv("HB_PROGRAM")) {
        puts("skipped: HB_PROGRAM does not name the program");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train),     cmocka_unit_test(test_plain), cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_bad_input), cmocka_unit_test(test_usage), cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
