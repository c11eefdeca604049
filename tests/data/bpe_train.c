#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "data/bpe_learn.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"
#include "folder.h"
#include "random_text.h"

static void ok(hb_status status)
{
    if (status != HB_OK)
        fail_msg("%s", hb_error());
}

/* Texts out of an array, forwards or backwards. */
struct list {
    const char *const *texts;
    size_t count, at;
    bool backwards;
};

static hb_status next_text(void *context, const unsigned char **text, size_t *n, bool *end)
{
    struct list *l = context;
    *end = l->at == l->count;
    if (*end)
        return HB_OK;
    const char *chosen = l->texts[l->backwards ? l->count - 1 - l->at : l->at];
    l->at++;
    *text = (const unsigned char *)chosen;
    *n = strlen(chosen);
    return HB_OK;
}

static hb_status train(struct list l, int32_t size, const char *const *specials, size_t special_count,
                       const char *output, struct hb_bpe_train_report *report)
{
    struct hb_bpe_texts texts = {next_text, &l};
    return hb_bpe_train(&texts, size, specials, special_count, output, report);
}

static const char *const rhyme[] = {
    "The cat sat on the mat, and the hat sat on the cat.\nThat was that: the cat, the hat, the mat.\n",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。\n明月明月明月。\n",
    "aaaaaaaaaaaa aaaaaaaaaaa aaaaaa aaa aa\n  \n\n   indented   \n   indented   \n",
    "cafe\u0301 caf\u00e9 CAFE\u0301 12345 12345 don't can't won't I'll we'll\n",
};
static const char *const end_of_text[] = {HB_END_OF_TEXT};
#define RHYME                                                                                                \
    (struct list)                                                                                            \
    {                                                                                                        \
        .texts = rhyme, .count = 4                                                                           \
    }

/* The definition of learning, counted anew before every merge. */
struct slow {
    uint32_t symbols[64][64];
    size_t lengths[64];
    int64_t counts[64];
    size_t words;
};

static bool best_pair(const struct slow *s, uint32_t *left, uint32_t *right)
{
    static int64_t counts[600][600];
    memset(counts, 0, sizeof counts);
    for (size_t w = 0; w < s->words; w++)
        for (size_t i = 0; i + 1 < s->lengths[w]; i++)
            counts[s->symbols[w][i]][s->symbols[w][i + 1]] += s->counts[w];
    int64_t best = 1;
    for (uint32_t a = 0; a < 600; a++)
        for (uint32_t b = 0; b < 600; b++)
            if (counts[a][b] > best) {
                best = counts[a][b];
                *left = a;
                *right = b;
            }
    return best > 1;
}

static void replace_pair(struct slow *s, uint32_t left, uint32_t right, uint32_t result)
{
    for (size_t w = 0; w < s->words; w++) {
        size_t kept = 0;
        for (size_t i = 0; i < s->lengths[w]; i++) {
            bool here = i + 1 < s->lengths[w] && s->symbols[w][i] == left && s->symbols[w][i + 1] == right;
            s->symbols[w][kept++] = here ? result : s->symbols[w][i];
            i += here;
        }
        s->lengths[w] = kept;
    }
}

/* Few letters and repeated words: ties, runs of one letter, and tokens that two
 * different pairs spell all come about. */
static void test_learning_matches_definition(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 60; round++) {
        struct slow slow = {0};
        struct hb_word_counts words = {0};
        struct hb_pretokenizer *pretokenizer;
        ok(hb_pretokenizer_create(hb_pattern_qwen, &pretokenizer));
        uint32_t letters = 1 + draw(&seed, 3);
        for (int w = 0; w < 12; w++) {
            char word[40];
            size_t n = 1 + draw(&seed, 20);
            for (size_t i = 0; i < n; i++)
                word[i] = (char)('a' + draw(&seed, letters));
            for (uint32_t times = 1 + draw(&seed, 3); times; times--)
                ok(hb_word_counts_add(&words, pretokenizer, word, n));
        }
        slow.words = words.words.count;
        for (size_t w = 0; w < slow.words; w++) {
            slow.lengths[w] = words.words.entries[w].length;
            slow.counts[w] = words.counts[w];
            for (size_t i = 0; i < slow.lengths[w]; i++) /* '!' is id 0 */
                slow.symbols[w][i] = hb_byte_map_text(&words.words, w)[i] - (uint32_t)'!';
        }
        struct hb_bpe_vocabulary v = {0};
        ok(hb_bpe_learn(&words, 300, &v));
        for (size_t m = 0; m < v.merge_count; m++) {
            uint32_t left = 0, right = 0;
            assert_true(best_pair(&slow, &left, &right));
            assert_int_equal(v.merges[m].left, left);
            assert_int_equal(v.merges[m].right, right);
            replace_pair(&slow, left, right, v.merges[m].result);
        }
        uint32_t left, right;
        assert_true(v.tokens.count == 300 || !best_pair(&slow, &left, &right));
        hb_bpe_vocabulary_release(&v);
        hb_word_counts_release(&words);
        hb_pretokenizer_destroy(pretokenizer);
    }
}

/* Every run and every order of the texts gives the same two files, byte by byte. */
static void test_is_deterministic(void **state)
{
    (void)state;
    struct hb_bpe_train_report report;
    struct list backwards = RHYME;
    backwards.backwards = true;
    ok(train(RHYME, 300, end_of_text, 1, in_folder("a"), &report));
    ok(train(RHYME, 300, end_of_text, 1, in_folder("b"), &report));
    ok(train(backwards, 300, end_of_text, 1, in_folder("c"), &report));
    static const char *const files[][3] = {
        {"a/tokenizer.json", "b/tokenizer.json", "c/tokenizer.json"},
        {"a/tokenizer_config.json", "b/tokenizer_config.json", "c/tokenizer_config.json"}};
    for (int f = 0; f < 2; f++) {
        char *first, *other;
        size_t n, m;
        ok(hb_file_read(in_folder(files[f][0]), &first, &n));
        for (int i = 1; i < 3; i++) {
            ok(hb_file_read(in_folder(files[f][i]), &other, &m));
            assert_int_equal(m, n);
            assert_memory_equal(first, other, n);
            free(other);
        }
        free(first);
    }
}

static void test_result(void **state)
{
    (void)state;
    struct hb_bpe_train_report report;
    static const char *const specials[] = {HB_END_OF_TEXT, "<|sep|>"};
    ok(train(RHYME, 300, specials, 2, in_folder("t"), &report));
    assert_int_equal(report.texts, 4);
    assert_int_equal(report.vocabulary, 300);
    struct hb_tokenizer *t;
    ok(hb_tokenizer_open(in_folder("t"), &t));
    assert_int_equal(hb_tokenizer_vocabulary(t), 300);
    assert_int_equal(hb_tokenizer_token_count(t), 300);
    assert_int_equal(hb_tokenizer_end_of_text(t), 298);
    assert_int_equal(hb_tokenizer_find(t, "<|sep|>", 7), 299);
    assert_int_equal(hb_tokenizer_find(t, "!", 1), 0);
    assert_int_equal(hb_tokenizer_find(t, " ", 1), 220);
    assert_true(hb_tokenizer_is_special(t, 299));
    assert_false(hb_tokenizer_is_special(t, 297));
    /* Frequent words have become tokens. */
    assert_true(hb_tokenizer_find(t, " the", 4) > 255);
    assert_true(hb_tokenizer_find(t, "\u660e\u6708", 6) > 255);
    hb_tokenizer_destroy(t);
}

/* Text that runs out of repeated pairs gives fewer tokens, and says so. */
static void test_little_text(void **state)
{
    (void)state;
    struct hb_bpe_train_report report;
    static const char *const texts[] = {"abab", ""};
    ok(train((struct list){.texts = texts, .count = 2}, 1000, end_of_text, 1, in_folder("t"), &report));
    assert_int_equal(report.vocabulary, 256 + 1 + 1);
    ok(train((struct list){.texts = texts, .count = 0}, 1000, NULL, 0, in_folder("u"), &report));
    assert_int_equal(report.vocabulary, 256);
    struct hb_tokenizer *t;
    ok(hb_tokenizer_open(in_folder("u"), &t));
    assert_int_equal(hb_tokenizer_end_of_text(t), -1);
    hb_tokenizer_destroy(t);
}

static void test_refusals(void **state)
{
    (void)state;
    struct hb_bpe_train_report report;
    static const char *const twice[] = {"<a>", "<a>"}, *const broken[] = {"<\xff>"},
                             *const learned[] = {"aa"};
    assert_int_equal(train(RHYME, 256, end_of_text, 1, in_folder("t"), &report), HB_EARGUMENT);
    assert_int_equal(train(RHYME, HB_BPE_ID_LIMIT + 1, end_of_text, 1, in_folder("t"), &report),
                     HB_EARGUMENT);
    assert_int_equal(train(RHYME, 300, twice, 2, in_folder("t"), &report), HB_EARGUMENT);
    assert_int_equal(train(RHYME, 300, broken, 1, in_folder("t"), &report), HB_EARGUMENT);
    assert_int_equal(train(RHYME, 300, learned, 1, in_folder("t"), &report), HB_EARGUMENT);
    static const char *const invalid[] = {"abc\xff"};
    assert_int_equal(
        train((struct list){.texts = invalid, .count = 1}, 300, NULL, 0, in_folder("t"), &report),
        HB_EFORMAT);
    assert_non_null(strstr(hb_error(), "byte 3"));
    assert_false(hb_file_exists(in_folder("t")));
}

/* One word of a megabyte: merging visits each place once per merge that it takes part in, so this ends. */
static void test_one_long_word(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n + 1);
    assert_non_null(text);
    uint64_t seed = 17;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + draw(&seed, 26));
    text[n] = '\0';
    const char *texts[] = {text};
    struct hb_bpe_train_report report;
    ok(train((struct list){.texts = texts, .count = 1}, 3000, NULL, 0, in_folder("t"), &report));
    assert_int_equal(report.vocabulary, 3000);
    free(text);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct hb_bpe_train_report report;
    int failures = 0;
    for (int64_t n = 1; n < 10000; n++) {
        int64_t before = hb_memory_now(HB_MEMORY_DATA);
        hb_memory_fail_at(n);
        hb_status status = train(RHYME, 300, end_of_text, 1, in_folder("t"), &report);
        hb_memory_fail_at(0);
        assert_int_equal(hb_memory_now(HB_MEMORY_DATA), before);
        if (status == HB_OK)
            break;
        assert_int_equal(status, HB_EMEMORY);
        failures++;
    }
    assert_true(failures > 10 && failures < 9999);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learning_matches_definition),
        IN_FOLDER(test_is_deterministic),
        IN_FOLDER(test_result),
        IN_FOLDER(test_little_text),
        IN_FOLDER(test_refusals),
        IN_FOLDER(test_one_long_word),
        IN_FOLDER(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
