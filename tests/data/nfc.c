#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "data/nfc.h"
#include "random_text.h"

static void ok(hb_status status)
{
    if (status != HB_OK)
        fail_msg("%s", hb_error());
}

static void expect(const void *text, size_t n, const void *normal, size_t normal_n)
{
    struct hb_bytes out = {0};
    bool changed;
    ok(hb_nfc(text, n, &out, &changed));
    assert_int_equal(changed, normal_n != n || memcmp(text, normal, n) != 0);
    if (changed) {
        assert_int_equal(out.count, normal_n);
        assert_memory_equal(out.data, normal, normal_n);
    } else {
        assert_int_equal(out.count, 0);
    }
    hb_bytes_release(&out);
}

static void test_examples(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"e\u0301", "\u00e9"},
        {"\u0301e", "\u0301e"},
        {"xe\u0301e\u0301y", "x\u00e9\u00e9y"},
        {"a\u0302\u0323", "\u1ead"},        /* the marks change places */
        {"q\u0307\u0323", "q\u0323\u0307"}, /* and stay apart */
        {"\u212b", "\u00c5"},               /* a singleton */
        {"\u0958", "\u0915\u093c"},         /* excluded from composition */
        {"\u1100\u1161\u11a8", "\uac01"},
        {"\uac00\u11a8", "\uac01"},
        {"\uac01\u11a8", "\uac01\u11a8"},
        {"\u09c7\u09be", "\u09cb"}, /* a second part that is a starter */
        {"\u0344", "\u0308\u0301"},
        {"\u4e2d\u6587", "\u4e2d\u6587"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i][0], strlen(cases[i][0]), cases[i][1], strlen(cases[i][1]));
}

/* Against the library's own whole-text function, which shares its tables but
 * neither our cuts nor our order of marks. */
static void test_random(void **state)
{
    (void)state;
    uint64_t seed = 5;
    struct hb_bytes text = {0};
    for (int i = 0; i < 20000; i++) {
        ok(draw_text(&seed, 1 + draw(&seed, 60), &text));
        utf8proc_uint8_t *normal;
        utf8proc_ssize_t n = utf8proc_map(text.data, (utf8proc_ssize_t)text.count, &normal,
                                          UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        assert_true(n >= 0);
        expect(text.data, text.count, normal, (size_t)n);
        free(normal);
    }
    hb_bytes_release(&text);
}

/* 400,000 marks in the wrong order: an order by exchanging neighbours would take
 * 4e10 steps, and the test would not end. (q composes with neither of them.) */
static void test_long_run_of_marks(void **state)
{
    (void)state;
    enum { HALF = 200000 };
    struct hb_bytes text = {0}, wanted = {0};
    ok(hb_bytes_append_text(&text, "q"));
    ok(hb_bytes_append_text(&wanted, "q"));
    for (int i = 0; i < HALF; i++) {
        ok(hb_bytes_append_text(&text, "\u0307\u0323"));
        ok(hb_bytes_append_text(&wanted, "\u0323"));
    }
    for (int i = 0; i < HALF; i++)
        ok(hb_bytes_append_text(&wanted, "\u0307"));
    expect(text.data, text.count, wanted.data, wanted.count);
    hb_bytes_release(&text);
    hb_bytes_release(&wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_long_run_of_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
