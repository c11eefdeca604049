#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/json.h"
#include "core/memory.h"
#include "data/nfc.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "folder.h"
#include "random_text.h"

static void ok(hb_status status)
{
    if (status != HB_OK)
        fail_msg("%s", hb_error());
}

static const char small_text[] =
    "{\"truncation\": null, \"padding\": null, \"normalizer\": {\"type\": \"NFC\"},"
    " \"added_tokens\": ["
    "  {\"id\": 261, \"content\": \"<|endoftext|>\", \"special\": true, \"normalized\": false},"
    "  {\"id\": 262, \"content\": \"<|end\", \"special\": false, \"normalized\": false},"
    "  {\"id\": 263, \"content\": \"caf\u00e9\", \"special\": false, \"normalized\": true}],"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false},"
    " \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"},"
    " \"model\": {\"type\": \"BPE\", \"ignore_merges\": false, \"vocab\": {},"
    "  \"merges\": [\"l l\", [\"h\", \"e\"], \"he ll\", \"\u0120 \u0120\", \"hell o\"]}}";

/* A small tokenizer.json in memory, to be changed and written: the text above with
 * the 256 bytes as ids 0..255, in code point order, and what the merges make. */
static json_t *small(void)
{
    json_t *root = json_loads(small_text, 0, NULL);
    assert_non_null(root);
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    int id = 0;
    for (uint32_t c = 0x21; c < 0x144; c++) {
        char key[5] = {0};
        bool used = c < 0x7f || (c >= 0xa1 && c != 0xad);
        hb_utf8_put(c, (unsigned char *)key);
        if (used)
            json_object_set_new(vocab, key, json_integer(id++));
    }
    assert_int_equal(id, 256);
    static const char *const words[] = {"ll", "he", "hell", "\u0120\u0120", "hello"};
    for (int i = 0; i < 5; i++)
        json_object_set_new(vocab, words[i], json_integer(256 + i));
    return root;
}

static const char *write_json(const json_t *root)
{
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    const char *path = write_text("tokenizer.json", text);
    free(text);
    return path;
}

static struct hb_tokenizer *open_json(json_t *root)
{
    struct hb_tokenizer *t;
    ok(hb_tokenizer_open(write_json(root), &t));
    json_decref(root);
    return t;
}

static void expect(const struct hb_tokenizer *t, const char *text, bool special, const int32_t *ids, size_t n)
{
    struct hb_ids got = {0};
    ok(hb_tokenizer_encode(t, text, strlen(text), special, &got));
    assert_int_equal(got.count, n);
    if (n)
        assert_memory_equal(got.data, ids, n * sizeof *ids);
    hb_ids_release(&got);
}

#define EXPECT(t, text, special, ...)                                                                        \
    expect(t, text, special, (const int32_t[]){__VA_ARGS__},                                                 \
           sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void test_small(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    assert_int_equal(hb_tokenizer_vocabulary(t), 264);
    assert_int_equal(hb_tokenizer_token_count(t), 264);
    assert_int_equal(hb_tokenizer_end_of_text(t), 261);
    assert_int_equal(strlen(hb_tokenizer_hash(t)), 32);
    EXPECT(t, "hello", false, 260);
    EXPECT(t, "hell he", false, 258, 220, 257);
    EXPECT(t, "a", false, 'a' - '!');
    expect(t, "", false, NULL, 0);
    /* special or not, and the longest where two tokens start alike */
    EXPECT(t, HB_END_OF_TEXT, true, 261);
    EXPECT(t, "<|end", true, 262);
    EXPECT(t, "<|end", false, 262);
    EXPECT(t, "<|" HB_END_OF_TEXT "he", true, '<' - '!', '|' - '!', 261, 257);
    /* a normalized token is found in the normalised text; the mark is part of it */
    EXPECT(t, "caf\u00e9", false, 263);
    EXPECT(t, "cafe\u0301", false, 263);
    assert_int_equal(hb_tokenizer_find(t, "hello", 5), 260);
    assert_int_equal(hb_tokenizer_find(t, "  ", 2), 259);
    assert_int_equal(hb_tokenizer_find(t, "nothing", 7), -1);
    size_t n;
    assert_null(hb_tokenizer_token(t, 264, &n));
    assert_null(hb_tokenizer_token(t, -1, &n));
    hb_tokenizer_destroy(t);
}

/* A special token that may not be matched is text, and hides the shorter one at its start. */
static void test_hidden_special(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    struct hb_ids ids = {0};
    ok(hb_tokenizer_encode(t, HB_END_OF_TEXT, strlen(HB_END_OF_TEXT), false, &ids));
    assert_int_equal(ids.count, strlen(HB_END_OF_TEXT));
    hb_ids_release(&ids);
    hb_tokenizer_destroy(t);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    json_t *root = small();
    json_t *model = json_object_get(root, "model");
    json_object_set_new(json_object_get(model, "vocab"), "xyz", json_integer(264));
    struct hb_tokenizer *t = open_json(json_incref(root));
    EXPECT(t, "xyz", false, 'x' - '!', 'y' - '!', 'z' - '!');
    hb_tokenizer_destroy(t);
    json_object_set_new(model, "ignore_merges", json_true());
    t = open_json(root);
    EXPECT(t, "xyz", false, 264);
    EXPECT(t, "xyzz", false, 'x' - '!', 'y' - '!', 'z' - '!', 'z' - '!');
    hb_tokenizer_destroy(t);
}

/* Changes one value of the small tokenizer (path with dots; NULL value: removes it) and expects a refusal. */
static void expect_refusal(const char *path, const char *value, hb_status status, const char *part)
{
    json_t *root = small(), *at = root;
    char keys[100];
    snprintf(keys, sizeof keys, "%s", path);
    char *rest = keys, *dot;
    for (; (dot = strchr(rest, '.')); rest = dot + 1) {
        *dot = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(rest)) : json_object_get(at, rest);
        assert_non_null(at);
    }
    json_t *fresh = value ? json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    assert_true(!value || fresh);
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(rest), fresh);
    else if (value)
        json_object_set_new(at, rest, fresh);
    else
        json_object_del(at, rest);
    struct hb_tokenizer *t;
    assert_int_equal(hb_tokenizer_open(write_json(root), &t), status);
    assert_null(t);
    if (!strstr(hb_error(), part) || !strstr(hb_error(), "tokenizer.json"))
        fail_msg("%s: '%s' does not say '%s'", path, hb_error(), part);
    json_decref(root);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value;
        hb_status status;
        const char *part;
    } cases[] = {
        {"normalizer.type", "\"NFKC\"", HB_EUNSUPPORTED, "NFKC"},
        {"normalizer", "7", HB_EFORMAT, "normalizer"},
        {"pre_tokenizer", "null", HB_EFORMAT, "pre_tokenizer"},
        {"pre_tokenizer.type", "\"Whitespace\"", HB_EUNSUPPORTED, "Whitespace"},
        {"pre_tokenizer.add_prefix_space", "true", HB_EUNSUPPORTED, "add_prefix_space"},
        {"pre_tokenizer.add_prefix_space", NULL, HB_EFORMAT, "add_prefix_space"},
        {"pre_tokenizer.use_regex", "false", HB_EUNSUPPORTED, "use_regex"},
        {"pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": []}", HB_EUNSUPPORTED, "0 steps"},
        {"pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, 1]}",
         HB_EUNSUPPORTED, "Digits"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": \"Removed\"}, 1]}",
         HB_EUNSUPPORTED, "Removed"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": \"Isolated\", "
         "\"pattern\": {\"String\": \" \"}}, 1]}",
         HB_EFORMAT, "Regex"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": \"Isolated\", "
         "\"pattern\": {\"Regex\": \"\\\\w+\"}}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
         "\"use_regex\": false}]}",
         HB_EUNSUPPORTED, "\\w"},
        {"post_processor", "{\"type\": \"BertProcessing\"}", HB_EUNSUPPORTED, "BertProcessing"},
        {"post_processor", "{\"type\": \"TemplateProcessing\", \"single\": [1, 2], \"special_tokens\": {}}",
         HB_EUNSUPPORTED, "adds tokens"},
        {"truncation", "{\"max_length\": 5}", HB_EUNSUPPORTED, "truncation"},
        {"decoder.type", "\"Metaspace\"", HB_EUNSUPPORTED, "Metaspace"},
        {"decoder", "null", HB_EFORMAT, "decoder"},
        {"added_tokens.0.lstrip", "true", HB_EUNSUPPORTED, "lstrip"},
        {"added_tokens.0.rstrip", "true", HB_EUNSUPPORTED, "rstrip"},
        {"added_tokens.0.single_word", "true", HB_EUNSUPPORTED, "single_word"},
        {"added_tokens.0.id", "-1", HB_EUNSUPPORTED, "-1"},
        {"added_tokens.0.id", "4000000000", HB_EUNSUPPORTED, "4000000000"},
        {"added_tokens.0.id", "5", HB_EFORMAT, "two tokens"},
        {"added_tokens.0.content", "\"\"", HB_EFORMAT, "empty"},
        {"added_tokens.1.content", "\"<|endoftext|>\"", HB_EFORMAT, "twice"},
        {"added_tokens.1", "[]", HB_EFORMAT, "added_tokens[1]"},
        {"added_tokens", "{}", HB_EFORMAT, "added_tokens"},
        {"model", NULL, HB_EFORMAT, "model"},
        {"model.type", "\"Unigram\"", HB_EUNSUPPORTED, "Unigram"},
        {"model.dropout", "0.1", HB_EUNSUPPORTED, "dropout"},
        {"model.byte_fallback", "true", HB_EUNSUPPORTED, "byte_fallback"},
        {"model.end_of_word_suffix", "\"</w>\"", HB_EUNSUPPORTED, "end_of_word_suffix"},
        {"model.vocab.a", NULL, HB_EUNSUPPORTED, "byte 61"},
        {"model.vocab.a", "\"x\"", HB_EFORMAT, "integer"},
        {"model.vocab.a", "3", HB_EFORMAT, "two tokens"},
        {"model.vocab.a", "99999999999", HB_EUNSUPPORTED, "99999999999"},
        {"model.vocab.caf\u00e9", "5", HB_EFORMAT, "another id"},
        {"model.vocab.a b", "264", HB_EFORMAT, "alphabet"},
        {"model.vocab", "[]", HB_EFORMAT, "vocab"},
        {"model.merges", "\"x\"", HB_EFORMAT, "merges"},
        {"model.merges.0", "\"abc\"", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "\"a b c\"", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "\"l l\\u0000\"", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "[\"l\"]", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "[\"l\", 5]", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "7", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "\"l \"", HB_EFORMAT, "merges[0]"},
        {"model.merges.0", "\"l nowhere\"", HB_EFORMAT, "nowhere"},
        {"model.merges.0", "\"l x\"", HB_EFORMAT, "merged token"},
        {"model.merges.0", "\"h e\"", HB_EFORMAT, "repeats"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].path, cases[i].value, cases[i].status, cases[i].part);
}

/* Every prefix of the file (in steps), and the file with single bytes changed: an error or a tokenizer, no
 * crash. */
static void test_damaged_files(void **state)
{
    (void)state;
    json_t *root = small();
    char *text = json_dumps(root, 0);
    json_decref(root);
    size_t n = strlen(text);
    struct hb_tokenizer *t;
    for (size_t cut = 0; cut < n; cut += 1 + cut / 7) {
        assert_int_equal(hb_tokenizer_open(write_bytes("cut.json", text, cut), &t), HB_EFORMAT);
        assert_null(t);
    }
    uint64_t seed = 9;
    int opened = 0;
    for (int i = 0; i < 600; i++) {
        size_t at = draw(&seed, (uint32_t)n);
        char kept = text[at];
        text[at] = (char)draw(&seed, 256);
        hb_status status = hb_tokenizer_open(write_bytes("odd.json", text, n), &t);
        assert_true(status == HB_OK || status == HB_EFORMAT || status == HB_EUNSUPPORTED);
        opened += status == HB_OK;
        hb_tokenizer_destroy(t);
        text[at] = kept;
    }
    assert_true(opened > 0 && opened < 600);
    assert_int_equal(hb_tokenizer_open(in_folder("missing.json"), &t), HB_EIO);
    free(text);
}

static void test_invalid_text(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    struct hb_ids ids = {0};
    ok(hb_ids_push(&ids, 77));
    assert_int_equal(hb_tokenizer_encode(t, "hello \xed\xa0\x80", 9, false, &ids), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "byte 6"));
    assert_int_equal(ids.count, 1);
    struct hb_bytes out = {0};
    const int32_t wrong[] = {1, 264};
    assert_int_equal(hb_tokenizer_decode(t, wrong, 2, &out), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "264"));
    assert_int_equal(out.count, 0);
    hb_bytes_release(&out);
    hb_ids_release(&ids);
    hb_tokenizer_destroy(t);
}

static void round_trip(const struct hb_tokenizer *t, const struct hb_bytes *text, bool special)
{
    struct hb_ids ids = {0};
    struct hb_bytes back = {0}, normal = {0};
    bool changed;
    ok(hb_tokenizer_encode(t, text->data, text->count, special, &ids));
    ok(hb_tokenizer_decode(t, ids.data, ids.count, &back));
    ok(hb_nfc(text->data, text->count, &normal, &changed));
    const struct hb_bytes *wanted = changed ? &normal : text;
    assert_int_equal(back.count, wanted->count);
    assert_memory_equal(back.data, wanted->data, wanted->count);
    hb_bytes_release(&normal);
    hb_bytes_release(&back);
    hb_ids_release(&ids);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    struct hb_bytes text = {0};
    uint64_t seed = 21;
    for (int i = 0; i < 5000; i++) {
        ok(draw_text(&seed, 1 + draw(&seed, 80), &text));
        round_trip(t, &text, false);
    }
    hb_bytes_release(&text);
    hb_tokenizer_destroy(t);
}

/* The stream gives, whatever the ids, what decoding all bytes at once and putting
 * U+FFFD for what is broken gives; and nothing but whole characters on the way. */
static void test_stream(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    uint64_t seed = 4;
    for (int round = 0; round < 3000; round++) {
        struct hb_decode_stream stream = {.tokenizer = t};
        struct hb_bytes text = {0}, all = {0}, wanted = {0};
        ok(draw_text(&seed, 1 + draw(&seed, 10), &text));
        struct hb_ids ids = {0};
        ok(hb_tokenizer_encode(t, text.data, text.count, false, &ids));
        for (size_t i = 0; i < ids.count; i++)
            if (draw(&seed, 6) == 0)
                ids.data[i] = (int32_t)draw(&seed, 261);
        text.count = 0;
        for (size_t i = 0; i < ids.count; i++) {
            ok(hb_tokenizer_decode_stream(&stream, ids.data[i], &text));
            assert_int_equal(hb_utf8_valid_bytes(text.data ? (void *)text.data : "", text.count), text.count);
        }
        ok(hb_tokenizer_decode_stream_end(&stream, &text));
        ok(hb_tokenizer_decode(t, ids.data, ids.count, &all));
        for (size_t at = 0; at < all.count;) {
            int length = hb_utf8_sequence(all.data + at, all.count - at);
            size_t take = length ? (size_t)abs(length) : all.count - at;
            ok(length > 0 ? hb_bytes_append(&wanted, all.data + at, take)
                          : hb_bytes_append_text(&wanted, "\ufffd"));
            at += take;
        }
        assert_int_equal(text.count, wanted.count);
        assert_memory_equal(text.data, wanted.data, wanted.count);
        assert_int_equal(hb_tokenizer_decode_stream(&stream, 5000, &text), HB_EARGUMENT);
        hb_ids_release(&ids);
        hb_bytes_release(&text);
        hb_bytes_release(&all);
        hb_bytes_release(&wanted);
    }
    hb_tokenizer_destroy(t);
}

static void *encode_in_thread(void *context)
{
    const struct hb_tokenizer *t = context;
    uint64_t seed = 33;
    struct hb_bytes text = {0};
    struct hb_ids ids = {0};
    uintptr_t sum = 0;
    for (int i = 0; i < 500; i++) {
        ids.count = 0;
        if (draw_text(&seed, 50, &text) != HB_OK ||
            hb_tokenizer_encode(t, text.data, text.count, true, &ids) != HB_OK)
            break;
        for (size_t j = 0; j < ids.count; j++)
            sum = 31 * sum + (uintptr_t)ids.data[j] + 1;
    }
    hb_bytes_release(&text);
    hb_ids_release(&ids);
    return (void *)sum;
}

static void test_threads(void **state)
{
    (void)state;
    struct hb_tokenizer *t = open_json(small());
    void *alone = encode_in_thread(t);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, t), 0);
    for (int i = 0; i < 4; i++) {
        void *sum;
        assert_int_equal(pthread_join(threads[i], &sum), 0);
        assert_ptr_equal(sum, alone);
    }
    hb_tokenizer_destroy(t);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    json_t *root = small();
    const char *path = write_json(root);
    json_decref(root);
    bool done = false;
    for (int64_t n = 1; !done; n++) {
        assert_true(n < 1000);
        int64_t before = hb_memory_now(HB_MEMORY_DATA);
        struct hb_tokenizer *t;
        struct hb_ids ids = {0};
        hb_memory_fail_at(n);
        hb_status status = hb_tokenizer_open(path, &t);
        if (status == HB_OK)
            status = hb_tokenizer_encode(t, "e\u0301 hello " HB_END_OF_TEXT, 23, true, &ids);
        done = status == HB_OK;
        hb_memory_fail_at(0);
        assert_true(done || status == HB_EMEMORY);
        hb_ids_release(&ids);
        hb_tokenizer_destroy(t);
        assert_int_equal(hb_memory_now(HB_MEMORY_DATA), before);
    }
}

/* golden/tokenizer/qwen3-cases.jsonl, with the tokenizer that the project does not hold. */
static void test_qwen3(void **state)
{
    (void)state;
    const char *shared = getenv("HB_SHARED"), *source = getenv("HB_SRCDIR");
    if (!shared) {
        print_message("skipped: HB_SHARED does not name the folder with conformance/qwen3/tokenizer.json\n");
        skip();
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/conformance/qwen3", shared);
    struct hb_tokenizer *t;
    ok(hb_tokenizer_open(path, &t));
    assert_int_equal(hb_tokenizer_vocabulary(t), 151669);
    assert_int_equal(hb_tokenizer_end_of_text(t), 151643);
    snprintf(path, sizeof path, "%s/golden/tokenizer/qwen3-cases.jsonl", source ? source : ".");
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot open %s", path);
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    int cases = 0;
    while ((size = getline(&line, &room, file)) > 0) {
        json_t *c;
        ok(hb_json_parse(path, cases + 1, line, (size_t)size, HB_JSON_ALLOW_NUL, &c));
        const json_t *text = json_object_get(c, "text"), *wanted = json_object_get(c, "ids");
        struct hb_ids ids = {0};
        ok(hb_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                               json_is_true(json_object_get(c, "special")), &ids));
        bool equal = ids.count == json_array_size(wanted);
        for (size_t i = 0; equal && i < ids.count; i++)
            equal = ids.data[i] == json_integer_value(json_array_get(wanted, i));
        if (!equal)
            fail_msg("%s:%d: the ids differ", path, cases + 1);
        hb_ids_release(&ids);
        json_decref(c);
        cases++;
    }
    assert_true(cases > 150);
    free(line);
    fclose(file);
    struct hb_bytes text = {0};
    uint64_t seed = 8;
    for (int i = 0; i < 2000; i++) {
        ok(draw_text(&seed, 1 + draw(&seed, 80), &text));
        round_trip(t, &text, true);
    }
    hb_bytes_release(&text);
    hb_tokenizer_destroy(t);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_small),         IN_FOLDER(test_hidden_special),
        IN_FOLDER(test_ignore_merges), IN_FOLDER(test_refusals),
        IN_FOLDER(test_damaged_files), IN_FOLDER(test_invalid_text),
        IN_FOLDER(test_round_trip),    IN_FOLDER(test_stream),
        IN_FOLDER(test_threads),       IN_FOLDER(test_failing_allocations),
        cmocka_unit_test(test_qwen3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
