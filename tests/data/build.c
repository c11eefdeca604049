#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/memory.h"
#include "data/build.h"
#include "data/manifest.h"
#include "data/split.h"
#include "folder.h"

/* The smallest real encoder: a byte is its own id, 256 ends a text. */
static hb_status encode_bytes(const void *context, const unsigned char *text, size_t size, struct hb_ids *ids)
{
    (void)context;
    HB_TRY(hb_ids_reserve(ids, size));
    for (size_t i = 0; i < size; i++)
        HB_TRY(hb_ids_push(ids, text[i]));
    return HB_OK;
}

static const struct hb_encoder bytes_encoder = {.encode = encode_bytes,
                                                .vocabulary = 257,
                                                .end_of_text = 256,
                                                .path = "bytes",
                                                .hash = "00112233445566778899aabbccddeeff"};

static hb_status build(const char **inputs, size_t count, double held_out, struct hb_build_report *report)
{
    struct hb_build_options options = {
        .source = {.inputs = inputs, .input_count = count}, .prefix = in_folder("out"), .held_out = held_out};
    return hb_build(&options, &bytes_encoder, report);
}

/* All documents of a shard, their end-of-text shown as '|'. */
static char *shard_text(const char *name)
{
    struct hb_shard shard;
    if (hb_shard_init(in_folder(name), &shard) != HB_OK)
        fail_msg("%s", hb_error());
    int32_t *ids = malloc((size_t)(shard.tokens + 1) * 4);
    char *text = malloc((size_t)shard.tokens + 1);
    assert_non_null(ids);
    assert_non_null(text);
    hb_shard_read(&shard, 0, shard.tokens, ids);
    for (int64_t i = 0; i < shard.tokens; i++)
        text[i] = ids[i] == 256 ? '|' : (char)ids[i];
    text[shard.tokens] = '\0';
    free(ids);
    hb_shard_release(&shard);
    return text;
}

static void expect_shard(const char *name, const char *expected)
{
    char *text = shard_text(name);
    assert_string_equal(text, expected);
    free(text);
}

static int is_held_out(const char *text, double fraction)
{
    return (double)hb_split_hash(text, strlen(text)) < fraction * 0x1p64;
}

static void test_split_by_hash(void **state)
{
    (void)state;
    /* 1000 documents in two inputs, in another order than a sort would give. */
    char train[16384] = "", held_out[16384] = "";
    FILE *files[2] = {fopen(in_folder("a.jsonl"), "w"), fopen(in_folder("b.jsonl"), "w")};
    int counts[2][2] = {{0}};
    for (int i = 0; i < 1000; i++) {
        char text[32];
        snprintf(text, sizeof text, "d%d", i * 7919 % 1000);
        int input = i >= 600, side = is_held_out(text, 0.1);
        fprintf(files[input], "{\"text\": \"%s\"}\n", text);
        strcat(side ? held_out : train, text);
        strcat(side ? held_out : train, "|");
        counts[input][side]++;
    }
    fclose(files[0]);
    fclose(files[1]);
    const char *inputs[] = {in_folder("a.jsonl"), in_folder("b.jsonl")};
    struct hb_build_report report;
    assert_int_equal(build(inputs, 2, 0.1, &report), HB_OK);
    expect_shard("out-train", train);
    expect_shard("out-heldout", held_out);
    assert_int_equal(report.method, HB_SPLIT_HASH);
    for (int side = 0; side < 2; side++) {
        for (int input = 0; input < 2; input++)
            assert_int_equal(report.inputs[input][side].documents, counts[input][side]);
        assert_int_equal(report.total[side].documents, counts[0][side] + counts[1][side]);
        assert_int_equal(report.total[side].tokens, report.total[side].bytes + report.total[side].documents);
        assert_int_equal(report.shards[side].tokens, report.total[side].tokens);
    }
    /* 100 +- 9.5 (one sigma); the hash and the texts are fixed. */
    assert_true(report.total[1].documents > 60 && report.total[1].documents < 140);

    struct hb_manifest manifest;
    if (hb_manifest_read(in_folder("out"), &manifest) != HB_OK)
        fail_msg("%s", hb_error());
    assert_int_equal(manifest.vocabulary, 257);
    assert_int_equal(manifest.end_of_text, 256);
    assert_string_equal(manifest.tokenizer_hash, bytes_encoder.hash);
    assert_true(manifest.held_out);
    assert_int_equal(manifest.train_tokens, report.total[0].tokens);
    assert_int_equal(manifest.held_out_tokens, report.total[1].tokens);

    /* The hashes are those of the files. */
    struct hb_file_receipt receipt;
    assert_int_equal(hb_file_receipt(in_folder("out-heldout.bin"), &receipt), HB_OK);
    assert_string_equal(receipt.hash, report.shards[1].bin.hash);
    assert_int_equal(receipt.bytes, report.shards[1].bin.bytes);
    assert_int_equal(hb_file_receipt(in_folder("out-train.idx"), &receipt), HB_OK);
    assert_string_equal(receipt.hash, report.shards[0].idx.hash);
    hb_build_report_release(&report);
}

/* Two documents: one on each side whatever their hashes and the fraction. */
static void test_never_empty(void **state)
{
    (void)state;
    static const double fractions[] = {1e-9, 0.01, 0.5};
    for (int i = 0; i < 20; i++) {
        for (int f = 0; f < 3; f++) {
            char text[64];
            snprintf(text, sizeof text, "a%d\n<|endoftext|>\nb%d\n", i, i);
            const char *input = write_text("two.txt", text);
            struct hb_build_report report;
            assert_int_equal(build(&input, 1, fractions[f], &report), HB_OK);
            assert_int_equal(report.total[0].documents, 1);
            assert_int_equal(report.total[1].documents, 1);
            hb_build_report_release(&report);
        }
    }
    const char *input = write_text("same.txt", "x\n<|endoftext|>\nx\n");
    struct hb_build_report report;
    assert_int_equal(build(&input, 1, 0.1, &report), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "the same text"));
}

static void test_single_document(void **state)
{
    (void)state;
    struct hb_build_report report;
    /* 100 bytes, a fifth held out: the last paragraph start in 60 .. 80 is behind byte 70. */
    char text[101];
    memset(text, 'x', 100);
    text[100] = '\0';
    memcpy(text + 58, "\n\n", 2);
    memcpy(text + 68, "\n\n", 2);
    text[76] = '\n';
    memcpy(text + 85, "\n\n", 2);
    const char *input = write_text("one.txt", text);
    assert_int_equal(build(&input, 1, 0.2, &report), HB_OK);
    assert_int_equal(report.method, HB_SPLIT_CUT);
    assert_int_equal(report.total[0].bytes, 70);
    assert_int_equal(report.total[1].bytes, 30);
    hb_build_report_release(&report);
    char *train = shard_text("out-train"), *held_out = shard_text("out-heldout");
    assert_memory_equal(train, text, 70);
    assert_memory_equal(held_out, text + 70, 30);
    free(train);
    free(held_out);

    text[68] = text[58] = 'x'; /* no paragraph left: the last line */
    input = write_text("one.txt", text);
    assert_int_equal(build(&input, 1, 0.2, &report), HB_OK);
    assert_int_equal(report.total[0].bytes, 77);
    hb_build_report_release(&report);

    input = write_text("one.txt", "\u4f60\u597d\u4f60\u597d"); /* no line either: between two characters */
    assert_int_equal(build(&input, 1, 0.3, &report), HB_OK);
    assert_int_equal(report.total[0].bytes, 9);
    hb_build_report_release(&report);

    input = write_text("one.txt", "\u4f60");
    assert_int_equal(build(&input, 1, 0.3, &report), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "too short"));
}

static void test_nothing_held_out(void **state)
{
    (void)state;
    const char *input = write_text("one.txt", "abc\n<|endoftext|>\nde\n");
    struct hb_build_report report;
    assert_int_equal(build(&input, 1, 0.1, &report), HB_OK);
    hb_build_report_release(&report);
    assert_true(hb_file_exists(in_folder("out-heldout.bin")));
    assert_int_equal(build(&input, 1, 0, &report), HB_OK);
    assert_int_equal(report.method, HB_SPLIT_NONE);
    hb_build_report_release(&report);
    expect_shard("out-train", "abc\n|de\n|");
    assert_false(hb_file_exists(in_folder("out-heldout.bin"))); /* not even an old one */
    struct hb_manifest manifest;
    assert_int_equal(hb_manifest_read(in_folder("out"), &manifest), HB_OK);
    assert_false(manifest.held_out);
}

/* Many batches, large and small documents: the order is that of the inputs. */
static void test_batches(void **state)
{
    (void)state;
    FILE *file = fopen(in_folder("many.txt"), "w");
    assert_non_null(file);
    for (int i = 0; i < 700; i++) {
        fprintf(file, "%d", i);
        for (int j = 0; j < i % 97 * 300; j++)
            fputc('x', file);
        fprintf(file, "\n<|endoftext|>\n");
    }
    fclose(file);
    const char *input = in_folder("many.txt");
    struct hb_build_report report;
    assert_int_equal(build(&input, 1, 0, &report), HB_OK);
    assert_int_equal(report.total[0].documents, 700);
    hb_build_report_release(&report);
    char *text = shard_text("out-train"), *at = text;
    for (int i = 0; i < 700; i++) {
        assert_int_equal(strtol(at, &at, 10), i);
        assert_int_equal(strspn(at, "x"), i % 97 * 300);
        at = strchr(at, '|') + 1;
    }
    assert_int_equal(*at, '\0');
    free(text);
}

static void expect_only_inputs(void)
{
    assert_false(hb_file_exists(in_folder("out.json")));
    assert_false(hb_file_exists(in_folder("out-train.bin")));
    assert_false(hb_file_exists(in_folder("out-train.idx")));
    assert_false(hb_file_exists(in_folder("out-heldout.bin")));
    assert_false(hb_file_exists(in_folder("out-heldout.idx")));
}

static void test_bad_inputs(void **state)
{
    (void)state;
    struct hb_build_report report;
    const char *inputs[] = {write_text("a.txt", "fine"), write_text("b.txt", "not \xff fine")};
    assert_int_equal(build(inputs, 2, 0.1, &report), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "b.txt: invalid UTF-8 at byte 4"));
    expect_only_inputs();
    const char *empty = write_text("empty.txt", "");
    assert_int_equal(build(&empty, 1, 0.1, &report), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "no document"));
    assert_int_equal(build(inputs, 1, 0.6, &report), HB_EARGUMENT);
    assert_int_equal(build(inputs, 1, -0.1, &report), HB_EARGUMENT);
    assert_int_equal(build(inputs, 0, 0.1, &report), HB_EARGUMENT);
    expect_only_inputs();

    struct hb_build_options options = {.source = {.inputs = inputs, .input_count = 2, .skip_invalid = true},
                                       .prefix = in_folder("out")};
    assert_int_equal(hb_build(&options, &bytes_encoder, &report), HB_OK);
    assert_int_equal(report.source.invalid, 1);
    assert_int_equal(report.total[0].documents, 1);
    hb_build_report_release(&report);
}

static hb_status encode_badly(const void *context, const unsigned char *text, size_t size, struct hb_ids *ids)
{
    if (size == 3)
        return HB_FAIL(HB_EFORMAT, "three bytes are too much");
    return encode_bytes(context, text, size, ids);
}

/* The message of a worker thread arrives. */
static void test_encoder_fails(void **state)
{
    (void)state;
    const char *input = write_text("a.txt", "1\n<|endoftext|>\n2\n<|endoftext|>\n33\n<|endoftext|>\n4\n");
    struct hb_build_options options = {.source = {.inputs = &input, .input_count = 1},
                                       .prefix = in_folder("out")};
    struct hb_encoder encoder = bytes_encoder;
    encoder.encode = encode_badly;
    struct hb_build_report report;
    assert_int_equal(hb_build(&options, &encoder, &report), HB_EFORMAT);
    assert_string_equal(hb_error(), "three bytes are too much");
    expect_only_inputs();
    encoder = bytes_encoder;
    encoder.vocabulary = 256;
    assert_int_equal(hb_build(&options, &encoder, &report), HB_EARGUMENT);
}

/* A full disk leaves an earlier build as it was, and nothing new. */
static void test_full_disk(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("in"), 0777), 0);
    write_text("in/a.txt", "one\n<|endoftext|>\ntwo\n<|endoftext|>\nthree\n");
    const char *input = in_folder("in/a.txt");
    struct hb_build_report report;
    assert_int_equal(build(&input, 1, 0, &report), HB_OK);
    hb_build_report_release(&report);

    char *large = malloc(3 << 20);
    assert_non_null(large);
    memset(large, 'x', 3 << 20);
    write_bytes("in/b.txt", large, 3 << 20);
    free(large);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4 << 20;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const char *folder_input = in_folder("in");
    hb_status status = build(&folder_input, 1, 0, &report);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, HB_EIO);
    expect_shard("out-train", "one\n|two\n|three\n|");
    assert_int_equal(unlink(in_folder("out-train.bin")), 0);
    assert_int_equal(unlink(in_folder("out-train.idx")), 0);
    assert_int_equal(unlink(in_folder("out.json")), 0);
    assert_int_equal(hb_folder_remove(in_folder("in")), HB_OK);
    assert_int_equal(rmdir(folder), 0); /* no temporary file */
}

/* Every allocation of the data memory fails once: a clear failure, no file, no leak. */
static void test_out_of_memory(void **state)
{
    (void)state;
    const char *input = write_text("a.txt", "one\n<|endoftext|>\ntwo\n<|endoftext|>\nthree\n");
    hb_status status = HB_EMEMORY;
    int failures = 0;
    for (int n = 1; status != HB_OK; n++) {
        struct hb_build_report report;
        hb_memory_fail_at(n);
        status = build(&input, 1, 0.3, &report);
        hb_memory_fail_at(0);
        if (status == HB_OK) {
            hb_build_report_release(&report);
            break;
        }
        failures++;
        assert_int_equal(status, HB_EMEMORY);
        assert_non_null(strstr(hb_error(), "out of memory"));
        expect_only_inputs();
        assert_true(n < 100);
    }
    assert_true(failures >= 3);
}

static void expect_manifest_refused(const char *text, const char *part)
{
    write_text("m.json", text);
    struct hb_manifest manifest;
    assert_int_equal(hb_manifest_read(in_folder("m"), &manifest), HB_EFORMAT);
    if (!strstr(hb_error(), part))
        fail_msg("'%s' does not say '%s'", hb_error(), part);
}

static void test_bad_manifests(void **state)
{
    (void)state;
    expect_manifest_refused("{", "m.json");
    expect_manifest_refused("{\"format\": \"other\", \"version\": 1}", "'other'");
    expect_manifest_refused("{\"format\": \"hornbook-data\", \"version\": 2}", "version 2");
    expect_manifest_refused("{\"format\": \"hornbook-data\", \"version\": 1}", "tokenizer");
    expect_manifest_refused(
        "{\"format\": \"hornbook-data\", \"version\": 1, \"tokenizer\": {\"xxh3_128\": \"12\"}}",
        "32 hexadecimal digits");
    expect_manifest_refused("{\"format\": \"hornbook-data\", \"version\": 1, \"tokenizer\": {\"xxh3_128\": "
                            "\"00112233445566778899aabbccddeeff\", \"vocabulary\": 5, \"end_of_text\": 5}}",
                            "outside the vocabulary");
    expect_manifest_refused(
        "{\"format\": \"hornbook-data\", \"version\": 1, \"tokenizer\": {\"xxh3_128\": "
        "\"00112233445566778899aabbccddeeff\", \"vocabulary\": 4294967297, \"end_of_text\": 0}}",
        "impossible vocabulary");
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_split_by_hash),    IN_FOLDER(test_never_empty), IN_FOLDER(test_single_document),
        IN_FOLDER(test_nothing_held_out), IN_FOLDER(test_batches),     IN_FOLDER(test_bad_inputs),
        IN_FOLDER(test_encoder_fails),    IN_FOLDER(test_full_disk),   IN_FOLDER(test_out_of_memory),
        IN_FOLDER(test_bad_manifests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
