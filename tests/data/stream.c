#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/shard.h"
#include "data/shuffle.h"
#include "data/stream.h"
#include "folder.h"

enum { END = 0, VOCABULARY = 100 };

/* Documents as a list of ids, each ended by END. */
static const char *write_shard(const char *name, const int32_t *ids, size_t count)
{
    const char *prefix = in_folder(name);
    struct hb_shard_writer *writer;
    assert_int_equal(hb_shard_writer_create(prefix, VOCABULARY, &writer), HB_OK);
    for (size_t begin = 0; begin < count;) {
        size_t end = begin;
        while (ids[end++] != END)
            ;
        assert_int_equal(hb_shard_writer_add(writer, ids + begin, (int64_t)(end - begin)), HB_OK);
        begin = end;
    }
    assert_int_equal(hb_shard_writer_finish(writer), HB_OK);
    assert_int_equal(hb_shard_writer_commit(writer), HB_OK);
    hb_shard_writer_destroy(writer);
    return prefix;
}

static struct hb_stream *open_stream(struct hb_stream_options options, const char *a, const char *b)
{
    const char *prefixes[] = {a, b};
    options.prefixes = prefixes;
    options.prefix_count = b ? 2 : 1;
    if (!options.vocabulary)
        options.vocabulary = VOCABULARY;
    options.end_of_text = END;
    struct hb_stream *stream;
    if (hb_stream_create(&options, &stream) != HB_OK)
        fail_msg("%s", hb_error());
    return stream;
}

/* "ids > labels > segments" of sample i. */
static void expect_sample(const struct hb_stream *stream, int64_t i, int tokens, const char *expected)
{
    int32_t ids[16], labels[16], segments[17];
    struct hb_sample sample = {.ids = ids, .labels = labels, .segments = segments};
    if (hb_stream_sample(stream, i, &sample) != HB_OK)
        fail_msg("%s", hb_error());
    char text[512];
    int used = 0, kept = 0;
    for (int t = 0; t < tokens; t++)
        used += sprintf(text + used, "%d ", ids[t]);
    used += sprintf(text + used, "> ");
    for (int t = 0; t < tokens; t++) {
        used += sprintf(text + used, labels[t] == HB_LABEL_IGNORED ? "- " : "%d ", labels[t]);
        kept += labels[t] != HB_LABEL_IGNORED;
    }
    used += sprintf(text + used, ">");
    for (int s = 0; s <= sample.segment_count; s++)
        used += sprintf(text + used, " %d", segments[s]);
    assert_string_equal(text, expected);
    assert_int_equal(sample.label_count, kept);
}

static const int32_t small[] = {1, 2, 3, END, 4, END, END, 5, 6, 7, 8, 9, END, 10, END};

static void test_cuts(void **state)
{
    (void)state;
    const char *prefix = write_shard("a", small, 15);
    struct hb_stream *s = open_stream((struct hb_stream_options){.tokens = 4}, prefix, NULL);
    assert_int_equal(hb_stream_tokens(s), 15);
    assert_int_equal(hb_stream_documents(s), 5);
    assert_int_equal(hb_stream_samples(s), 3);
    expect_sample(s, 0, 4, "1 2 3 0 > 2 3 0 - > 0 4");     /* a whole document */
    expect_sample(s, 1, 4, "4 0 0 5 > 0 - - 6 > 0 2 3 4"); /* the last piece is cut: its label stays */
    expect_sample(s, 2, 4, "6 7 8 9 > 7 8 9 0 > 0 4");     /* a middle piece */
    hb_stream_destroy(s);

    s = open_stream((struct hb_stream_options){.tokens = 5}, prefix, NULL);
    assert_int_equal(hb_stream_samples(s), 2);
    expect_sample(s, 0, 5,
                  "1 2 3 0 4 > 2 3 0 - 0 > 0 4 5"); /* the shared token is an end-of-text: kept as a label */
    expect_sample(s, 1, 5, "0 0 5 6 7 > - - 6 7 8 > 0 1 2 5");
    hb_stream_destroy(s);

    s = open_stream((struct hb_stream_options){.tokens = 1}, prefix, NULL);
    assert_int_equal(hb_stream_samples(s), 14);
    expect_sample(s, 3, 1, "0 > - > 0 1");
    expect_sample(s, 4, 1, "4 > 0 > 0 1");
    hb_stream_destroy(s);

    s = open_stream((struct hb_stream_options){.tokens = 14}, prefix, NULL);
    assert_int_equal(hb_stream_samples(s), 1); /* all 15 tokens: 14 and their successor */
    expect_sample(s, 0, 14, "1 2 3 0 4 0 0 5 6 7 8 9 0 10 > 2 3 0 - 0 - - 6 7 8 9 0 - 0 > 0 4 6 7 13 14");
    hb_stream_destroy(s);
}

static void test_cross_documents(void **state)
{
    (void)state;
    const char *prefix = write_shard("a", small, 15);
    struct hb_stream *s =
        open_stream((struct hb_stream_options){.tokens = 5, .cross_documents = true}, prefix, NULL);
    expect_sample(s, 0, 5, "1 2 3 0 4 > 2 3 0 4 0 > 0 5");
    expect_sample(s, 1, 5, "0 0 5 6 7 > 0 5 6 7 8 > 0 5");
    hb_stream_destroy(s);
}

/* Two shards, cut anywhere between documents, are the same stream as one. */
static void test_several_shards(void **state)
{
    (void)state;
    write_shard("a", small, 15);
    static const size_t cuts[] = {0, 4, 6, 7, 13, 15};
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        write_shard("b", small, cuts[c]);
        write_shard("c", small + cuts[c], 15 - cuts[c]);
        for (int tokens = 1; tokens <= 14; tokens++) {
            struct hb_stream_options options = {.tokens = tokens};
            struct hb_stream *one = open_stream(options, in_folder("a"), NULL);
            struct hb_stream *two = open_stream(options, in_folder("b"), in_folder("c"));
            assert_int_equal(hb_stream_samples(one), hb_stream_samples(two));
            assert_int_equal(hb_stream_documents(two), 5);
            for (int64_t i = 0; i < hb_stream_samples(one); i++) {
                int32_t a[45] = {0}, b[45] = {0};
                struct hb_sample x = {.ids = a, .labels = a + 15, .segments = a + 30};
                struct hb_sample y = {.ids = b, .labels = b + 15, .segments = b + 30};
                assert_int_equal(hb_stream_sample(one, i, &x), HB_OK);
                assert_int_equal(hb_stream_sample(two, i, &y), HB_OK);
                assert_memory_equal(a, b, sizeof a);
                assert_int_equal(x.segment_count, y.segment_count);
                assert_int_equal(x.label_count, y.label_count);
            }
            hb_stream_destroy(one);
            hb_stream_destroy(two);
        }
    }
}

static void expect_refusal(struct hb_stream_options options, hb_status code, const char *part)
{
    struct hb_stream *stream;
    assert_int_equal(hb_stream_create(&options, &stream), code);
    if (!strstr(hb_error(), part))
        fail_msg("'%s' does not say '%s'", hb_error(), part);
}

static void test_refusals(void **state)
{
    (void)state;
    const char *prefix = write_shard("a", small, 15);
    struct hb_stream_options good = {
        .prefixes = &prefix, .prefix_count = 1, .vocabulary = 11, .end_of_text = END, .tokens = 14};
    struct hb_stream_options options = good;
    options.tokens = 15;
    expect_refusal(options, HB_EARGUMENT, "15 tokens are too few for a sample of 15 + 1");
    options.tokens = 0;
    expect_refusal(options, HB_EARGUMENT, "at least 1");
    options = good;
    options.end_of_text = 9;
    expect_refusal(options, HB_EFORMAT, "document 0 ends with token 0, not with end-of-text (9)");
    options = good;
    options.prefix_count = 0;
    expect_refusal(options, HB_EARGUMENT, "at least one shard");

    struct hb_stream *s = open_stream((struct hb_stream_options){.tokens = 4, .vocabulary = 9}, prefix, NULL);
    int32_t a[15];
    struct hb_sample sample = {.ids = a, .labels = a + 5, .segments = a + 10};
    assert_int_equal(hb_stream_sample(s, 1, &sample), HB_OK);
    assert_int_equal(hb_stream_sample(s, 2, &sample), HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "token 11 is 9, outside the vocabulary of 9"));
    assert_int_equal(hb_stream_sample(s, 3, &sample), HB_EARGUMENT);
    assert_int_equal(hb_stream_sample(s, -1, &sample), HB_EARGUMENT);
    hb_stream_destroy(s);
}

/* The last label reaches into the vocabulary check, too. */
static void test_last_label_checked(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 50, END};
    const char *prefix = write_shard("a", ids, 4);
    struct hb_stream *s =
        open_stream((struct hb_stream_options){.tokens = 2, .vocabulary = 50}, prefix, NULL);
    int32_t a[8];
    struct hb_sample sample = {.ids = a, .labels = a + 2, .segments = a + 4};
    assert_int_equal(hb_stream_sample(s, 0, &sample), HB_EFORMAT);
    hb_stream_destroy(s);
}

static void test_bijection(void **state)
{
    (void)state;
    static unsigned char seen[70000];
    static const uint64_t sizes[] = {1,  2,  3,  4,   5,   6,   7,   8,    9,    15,   16,   17,    31,   63,
                                     64, 65, 99, 255, 256, 257, 999, 1023, 1024, 1025, 4097, 16384, 65537};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, sizeof seen);
            for (uint64_t i = 0; i < sizes[s]; i++) {
                uint64_t to = hb_shuffle(7, epoch, sizes[s], i);
                assert_true(to < sizes[s]);
                assert_false(seen[to]);
                seen[to] = 1;
            }
        }
    }
}

/* Large n: results stay inside, and neighbours do not collide. */
static void test_large(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {UINT64_C(1) << 32, (UINT64_C(1) << 40) + 1, UINT64_C(1) << 62,
                                     (UINT64_C(1) << 62) + 1, UINT64_MAX};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t results[64];
        for (uint64_t i = 0; i < 64; i++) {
            results[i] = hb_shuffle(1, 2, sizes[s], sizes[s] - 1 - i);
            assert_true(results[i] < sizes[s]);
            for (uint64_t j = 0; j < i; j++)
                assert_true(results[i] != results[j]);
        }
    }
}

/* Every entry goes to every place about equally often over the epochs: for
 * n = 8 and 8000 epochs a place is hit 1000 times +- 29.6 (one sigma); 6 sigma
 * over 64 pairs is a chance of 1e-7, and the seed is fixed. */
static void test_uniform(void **state)
{
    (void)state;
    static int hits[8][8];
    for (uint64_t epoch = 0; epoch < 8000; epoch++)
        for (uint64_t i = 0; i < 8; i++)
            hits[i][hb_shuffle(3, epoch, 8, i)]++;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            if (!(abs(hits[i][j] - 1000) < 178))
                fail_msg("entry %d came to place %d %d times of 8000", i, j, hits[i][j]);
}

/* The exact order is part of the contract: a changed one would silently be
 * another training run. */
static void test_pinned(void **state)
{
    (void)state;
    static const uint64_t expected[10] = {4, 8, 6, 7, 3, 5, 1, 2, 0, 9};
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(hb_shuffle(1234, 0, 10, i), expected[i]);
    assert_int_equal(hb_shuffle(1234, 5, UINT64_C(1000000007), 123456), 132280770);
}

static void test_order(void **state)
{
    (void)state;
    const char *prefix = write_shard("a", small, 15);
    struct hb_stream *s = open_stream((struct hb_stream_options){.tokens = 1}, prefix, NULL);
    for (uint64_t n = 0; n < 30; n++)
        assert_int_equal(hb_stream_order(s, n), n % 14);
    hb_stream_destroy(s);

    int same[2] = {0, 0};
    struct hb_stream *a =
        open_stream((struct hb_stream_options){.tokens = 1, .shuffle = true, .seed = 1}, prefix, NULL);
    struct hb_stream *b =
        open_stream((struct hb_stream_options){.tokens = 1, .shuffle = true, .seed = 2}, prefix, NULL);
    for (uint64_t epoch = 0; epoch < 10; epoch++) {
        int seen = 0;
        for (uint64_t n = 0; n < 14; n++) {
            int64_t sample = hb_stream_order(a, epoch * 14 + n);
            seen |= 1 << sample;
            same[0] += sample == hb_stream_order(a, n);
            same[1] += sample == hb_stream_order(b, epoch * 14 + n);
        }
        assert_int_equal(seen, (1 << 14) - 1);
    }
    assert_true(same[0] >= 14 && same[0] < 50); /* itself, then about one a permutation */
    assert_true(same[1] < 40);
    hb_stream_destroy(a);
    hb_stream_destroy(b);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_cuts),         IN_FOLDER(test_cross_documents),    IN_FOLDER(test_several_shards),
        IN_FOLDER(test_refusals),     IN_FOLDER(test_last_label_checked), cmocka_unit_test(test_bijection),
        cmocka_unit_test(test_large), cmocka_unit_test(test_uniform),     cmocka_unit_test(test_pinned),
        IN_FOLDER(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
