#include "core/json.h"

#include <math.h>
#include <unistd.h>

#include "scratch.h"

static json_t *parse(const char *text)
{
    json_t *root;
    OK(hb_json_parse("test", 1, text, strlen(text), 0, &root));
    return root;
}

static void refuse(const char *text, const char *message)
{
    json_t *root;
    REFUSED(hb_json_parse("test", 1, text, strlen(text), 0, &root), HB_EFORMAT, message);
    assert_null(root);
}

static void places_of_errors(void **state)
{
    (void)state;
    refuse("{\"a\": 1,\n \"b\": ]}", "test:2:7: ");
    refuse("{\"a\": 1, \"a\": 2}", "duplicate");
    refuse("", "test:1:1: ");
    refuse("{} x", "end of file expected");
    refuse("{\"a\": \"\\u0000\"}", "\\u0000");
    refuse("{\"a\": \"\\ud800\"}", "test:1:");
    refuse("{\"a\": \"\xff\"}", "unable to decode byte 0xff");
    refuse("{\"a\": 99999999999999999999}", "too big integer");
    refuse("{\"a\": 1e999}", "real number overflow");
    refuse("{\"a\": \033[31m}", "near '?'"); /* no escape sequence reaches a terminal */

    json_t *root;
    const char *line = "{\"text\": nope}";
    REFUSED(hb_json_parse("test.jsonl", 812, line, strlen(line), 0, &root), HB_EFORMAT, "test.jsonl:812:1");
    REFUSED(hb_json_load(scratch("missing"), 0, &root), HB_EIO, "missing");
    const char *path = scratch_write("file.json", "{\n\n}}", 5);
    REFUSED(hb_json_load(path, 0, &root), HB_EFORMAT, "file.json:3:2: ");
    unlink(path);
}

static void nul_on_request(void **state)
{
    (void)state;
    json_t *root;
    const char *text = "{\"text\": \"a\\u0000b\"}";
    OK(hb_json_parse("test", 1, text, strlen(text), HB_JSON_ALLOW_NUL, &root));
    json_t *value = json_object_get(root, "text");
    assert_int_equal(json_string_length(value), 3);
    assert_memory_equal(json_string_value(value), "a\0b", 3);
    json_decref(root);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static char text[2000001];
    memset(text, '[', sizeof text - 1);
    refuse(text, "maximum parsing depth");
    for (size_t i = 0; i + 5 < sizeof text; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    refuse(text, "maximum parsing depth");
}

static void getters(void **state)
{
    (void)state;
    json_t *root =
        parse("{\"i\": -5, \"r\": 0.5, \"b\": true, \"s\": \"text\", \"o\": {}, \"a\": [], \"n\": null}");
    int64_t i;
    double r;
    bool b;
    const char *s;
    json_t *child;
    OK(hb_json_int(root, "f", "i", &i));
    assert_int_equal(i, -5);
    OK(hb_json_real(root, "f", "r", &r));
    assert_true(r == 0.5);
    OK(hb_json_real(root, "f", "i", &r));
    assert_true(r == -5);
    OK(hb_json_bool(root, "f", "b", &b));
    assert_true(b);
    OK(hb_json_string(root, "f", "s", &s));
    assert_string_equal(s, "text");
    OK(hb_json_object(root, "f", "o", &child));
    assert_true(json_is_object(child));
    OK(hb_json_array(root, "f", "a", &child));
    assert_true(json_is_array(child));

    REFUSED(hb_json_int(root, "f", "r", &i), HB_EFORMAT, "f: key 'r' must be an integer");
    REFUSED(hb_json_int(root, "f", "n", &i), HB_EFORMAT, "f: key 'n' must be an integer");
    REFUSED(hb_json_int(root, "f", "x", &i), HB_EFORMAT, "f: key 'x' is missing; it must be an integer");
    REFUSED(hb_json_real(root, "f", "s", &r), HB_EFORMAT, "f: key 's' must be a number");
    REFUSED(hb_json_bool(root, "f", "i", &b), HB_EFORMAT, "f: key 'i' must be true or false");
    REFUSED(hb_json_string(root, "f", "b", &s), HB_EFORMAT, "f: key 'b' must be a string");
    REFUSED(hb_json_object(root, "f", "a", &child), HB_EFORMAT, "f: key 'a' must be an object");
    REFUSED(hb_json_array(root, "f", "o", &child), HB_EFORMAT, "f: key 'o' must be an array");
    REFUSED(hb_json_int(json_object_get(root, "a"), "f", "i", &i), HB_EFORMAT, "f: must be an object");

    OK(hb_json_int_or(root, "f", "x", 7, &i));
    assert_int_equal(i, 7);
    OK(hb_json_int_or(root, "f", "n", 8, &i));
    assert_int_equal(i, 8);
    OK(hb_json_int_or(root, "f", "i", 9, &i));
    assert_int_equal(i, -5);
    OK(hb_json_real_or(root, "f", "x", 2.5, &r));
    assert_true(r == 2.5);
    OK(hb_json_bool_or(root, "f", "x", true, &b));
    assert_true(b);
    OK(hb_json_string_or(root, "f", "n", NULL, &s));
    assert_null(s);
    REFUSED(hb_json_int_or(root, "f", "s", 1, &i), HB_EFORMAT, "f: key 's' must be an integer");
    REFUSED(hb_json_string_or(root, "f", "i", "", &s), HB_EFORMAT, "f: key 'i' must be a string");
    json_decref(root);
}

static void writes_in_order(void **state)
{
    (void)state;
    json_t *root = json_object();
    json_object_set_new(root, "zebra", json_integer(1));
    json_object_set_new(root, "apple", json_real(0.1));
    json_object_set_new(root, "list", json_pack("[i, i]", 1, 2));
    json_object_set_new(root, "zebra", json_integer(3)); /* keeps its place */
    char *text;
    OK(hb_json_text(root, &text));
    assert_string_equal(text, "{\n  \"zebra\": 3,\n  \"apple\": 0.10000000000000001,\n"
                              "  \"list\": [\n    1,\n    2\n  ]\n}\n");
    json_t *again = parse(text);
    assert_true(json_equal(root, again));
    free(text);
    json_decref(again);
    json_decref(root);
    REFUSED(hb_json_text(json_real(NAN), &text), HB_EARGUMENT, "NaN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_of_errors),        cmocka_unit_test(nul_on_request),
        cmocka_unit_test(deep_nesting_is_refused), cmocka_unit_test(getters),
        cmocka_unit_test(writes_in_order),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
