#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/pretokenize.h"

/* Pieces of `text`, with '|' between them. */
static void expect(const char *pattern, const char *text, const char *pieces)
{
    struct hb_pretokenizer *p;
    if (hb_pretokenizer_create(pattern, &p) != HB_OK)
        fail_msg("%s", hb_error());
    char out[512];
    size_t used = 0, n = strlen(text);
    for (size_t begin = 0, end; begin < n; begin = end) {
        assert_int_equal(hb_pretokenizer_next(p, (const unsigned char *)text, n, begin, &end), HB_OK);
        assert_true(end > begin && end <= n);
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", begin ? "|" : "",
                                 (int)(end - begin), text + begin);
        assert_true(used < sizeof out);
    }
    hb_pretokenizer_destroy(p);
    assert_string_equal(out, pieces);
}

static void test_qwen(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"Hello world", "Hello| world"},
        {"I'll don'T 'sx", "I|'ll| don|'T| '|sx"},
        {"a  b", "a| | b"},
        {"a   ", "a|   "},
        {"2024", "2|0|2|4"},
        {" 12", " |1|2"},
        {"x...\n\ny", "x|...\n\n|y"},
        {"a \n \n b", "a| \n \n| b"},
        {"a\r\nb", "a|\r\n|b"},
        {"\tint", "\tint"},
        {"!!a", "!!|a"},
        {"(a", "(a"},
        {"\u4f60\u597d\uff0c\u4e16\u754c", "\u4f60\u597d|\uff0c\u4e16\u754c"},
        {"e\u0301", "e|\u0301"},
        {"it'\u017f", "it|'\u017f"},            /* long s is an s, caseless */
        {"a\u180e\u180eb", "a|\u180e\u180e|b"}, /* no white space (PCRE2 alone takes it for some) */
        {"a\u3000\u3000b", "a|\u3000|\u3000b"},
        {"a\xc2\x85\u00a0"
         "b",
         "a|\xc2\x85|\u00a0"
         "b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(hb_pattern_qwen, cases[i][0], cases[i][1]);
}

static void test_gpt2(void **state)
{
    (void)state;
    expect(hb_pattern_gpt2, "I'll don'T 2024\n\n x", "I|'ll| don|'|T| 2024|\n\n| x");
}

/* What lies between matches is a piece, too. */
static void test_gaps(void **state)
{
    (void)state;
    expect("[0-9]+", "ab12cd3", "ab|12|cd|3");
    expect("x", "abc", "abc");
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        hb_status status;
        const char *part;
    } cases[] = {
        {"\\w+", HB_EUNSUPPORTED, "\\w"},
        {"a\\b", HB_EUNSUPPORTED, "\\b"},
        {"\\h", HB_EUNSUPPORTED, "\\h"},
        {"(a)\\1", HB_EUNSUPPORTED, "\\1"},
        {"[\\S]", HB_EUNSUPPORTED, "\\S inside"},
        {"a.b", HB_EUNSUPPORTED, "'.'"},
        {"^a", HB_EUNSUPPORTED, "'^'"},
        {"[a[b]]", HB_EUNSUPPORTED, "class inside"},
        {"[a&&b]", HB_EUNSUPPORTED, "&&"},
        {"(?<n>a)", HB_EUNSUPPORTED, "group"},
        {"(*FAIL)", HB_EUNSUPPORTED, "group"},
        {"a{,3}", HB_EUNSUPPORTED, "'{'"},
        {"a{2}+", HB_EUNSUPPORTED, "after {n,m}"},
        {"\\p", HB_EUNSUPPORTED, "\\p"},
        {"a\\", HB_EUNSUPPORTED, "\\"},
        {"(a", HB_EFORMAT, "pattern"},
        {"[a", HB_EFORMAT, "pattern"},
        {"\\p{Nonsense}", HB_EFORMAT, "pattern"},
        {"a*", HB_EFORMAT, "match nothing"},
        {"", HB_EFORMAT, "match nothing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hb_pretokenizer *p;
        assert_int_equal(hb_pretokenizer_create(cases[i].pattern, &p), cases[i].status);
        assert_null(p);
        if (!strstr(hb_error(), cases[i].part))
            fail_msg("%s: '%s' does not say '%s'", cases[i].pattern, hb_error(), cases[i].part);
    }
}

/* One piece of 20 MB, in each class that repeats: neither the stack nor the match limit may end it. */
static void test_huge_pieces(void **state)
{
    (void)state;
    size_t n = 20000000;
    unsigned char *text = malloc(n);
    assert_non_null(text);
    struct hb_pretokenizer *p;
    assert_int_equal(hb_pretokenizer_create(hb_pattern_qwen, &p), HB_OK);
    for (const char *c = "a. \n"; *c; c++) {
        memset(text, *c, n);
        size_t end;
        if (hb_pretokenizer_next(p, text, n, 0, &end) != HB_OK)
            fail_msg("%s", hb_error());
        assert_int_equal(end, n);
    }
    hb_pretokenizer_destroy(p);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen),     cmocka_unit_test(test_gpt2),        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_huge_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
