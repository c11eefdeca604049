#include "core/yaml.h"

#include <math.h>
#include <unistd.h>

#include "scratch.h"

static struct hb_yaml *parse(const char *text)
{
    struct hb_yaml *doc;
    OK(hb_yaml_parse("run.yaml", text, strlen(text), &doc));
    return doc;
}

static void refuse(const char *text, const char *message)
{
    struct hb_yaml *doc;
    REFUSED(hb_yaml_parse("run.yaml", text, strlen(text), &doc), HB_EFORMAT, message);
    assert_null(doc);
}

static void refused_texts(void **state)
{
    (void)state;
    refuse("a: 1\nb: [1, 2\nc: 3\n", "run.yaml:3: ");
    refuse("a: 1\nb: \"open\n", "run.yaml:3: found unexpected end of stream while scanning a quoted scalar");
    refuse("a:\n\t- 1\n", "run.yaml:2: found character that cannot start any token");
    refuse("# text\na: 1\nb: \xff\n", "run.yaml:3: invalid leading UTF-8 octet");
    refuse("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "run.yaml:5: b.c: given twice, before at run.yaml:3");
    refuse("a: &x 1\nb: *x\n", "run.yaml:1: anchors (&name) are not allowed");
    refuse("a: 1\nb: *x\n", "run.yaml:2: aliases (*name) are not allowed");
    refuse("*x : 1\n", "run.yaml:1: aliases (*name) are not allowed");
    refuse("a: !!int 1\n", "run.yaml:1: tags (!name) are not allowed");
    refuse("a: ! b\n", "run.yaml:1: tags (!name) are not allowed");
    refuse("a: &x [1]\n", "run.yaml:1: anchors");
    refuse("a: !x {b: 1}\n", "run.yaml:1: tags");
    refuse("a: 1\n---\nb: 1\n", "run.yaml:2: a second document");
    refuse("- a\n- b\n", "run.yaml:1: must be a map");
    refuse("\n\njust text\n", "run.yaml:3: must be a map");
    refuse("a.b: 1\n", "run.yaml:1: a.b: a key must not be empty or hold a dot");
    refuse("\"\": 1\n", "a key must not be empty");
    refuse("[a, b]: 1\n", "run.yaml:1: a key must be a plain word");
    refuse("a: \"x\\0y\"\n", "run.yaml:1: a NUL character is not allowed");
    refuse("\"x\\0y\": 1\n", "run.yaml:1: a NUL character is not allowed");

    struct hb_yaml *doc;
    REFUSED(hb_yaml_load(scratch("none.yaml"), &doc), HB_EIO, "none.yaml");
}

static void hostile_sizes(void **state)
{
    (void)state;
    enum { SIZE = 1000000 };
    char *text = malloc(2 * SIZE);
    assert_non_null(text);
    memset(text, '[', SIZE);
    memcpy(text, "a: ", 3);
    text[SIZE] = '\0';
    refuse(text, "run.yaml:1: more than 32 levels");
    for (size_t i = 0; i < SIZE; i += 4)
        memcpy(text + i, "{a: ", 4);
    refuse(text, "run.yaml:1: more than 32 levels");
    memcpy(text, "a:\n ", 4);
    for (size_t i = 4; i < SIZE; i += 2)
        memcpy(text + i, "- ", 2);
    refuse(text, "more than 32 levels");
    size_t used = 0;
    for (int i = 0; i < 60000; i++)
        used += (size_t)sprintf(text + used, "k%d: 1\n", i);
    refuse(text, "run.yaml:20000: more than 20000 keys and values");
    memset(text, ' ', 2 * SIZE - 1);
    text[2 * SIZE - 1] = '\0';
    refuse(text, "a configuration at most");
    free(text);
}

static void tree_and_places(void **state)
{
    (void)state;
    struct hb_yaml *doc = parse("\xef\xbb\xbf# comment, behind a byte order mark\n"
                                "model:\n"
                                "  heads: 6\n"
                                "  empty:\n"
                                "sources:\n"
                                "  - path: a.txt\n"
                                "    weight: 0.5\n"
                                "  - path: \"b: c\"\n"
                                "list: [1, [2, 3]]\n");
    const char *text;
    int64_t value;
    OK(hb_yaml_int(hb_yaml_get(doc, "model.heads"), &value));
    assert_int_equal(value, 6);
    OK(hb_yaml_string(hb_yaml_get(doc, "sources.1.path"), &text));
    assert_string_equal(text, "b: c");
    OK(hb_yaml_int(hb_yaml_get(doc, "list.1.0"), &value));
    assert_int_equal(value, 2);
    assert_true(hb_yaml_is_null(hb_yaml_get(doc, "model.empty")));
    assert_int_equal(hb_yaml_get(doc, "sources")->count, 2);
    assert_ptr_equal(hb_yaml_child(hb_yaml_get(doc, "model"), "heads"), hb_yaml_get(doc, "model.heads"));
    static const char *const absent[] = {"x",
                                         "model.x",
                                         "model.head",
                                         "model.headss",
                                         "sources.2",
                                         "sources.x",
                                         "sources.",
                                         "list.1.2",
                                         "list.0.0",
                                         "sources.-1",
                                         "mode",
                                         "sources.0x",
                                         "list.99999999999999999999"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (hb_yaml_get(doc, absent[i]))
            fail_msg("%s is there", absent[i]);

    assert_string_equal(hb_yaml_place(doc, "model.heads"), "run.yaml:3");
    assert_string_equal(hb_yaml_place(doc, "model.width"), "run.yaml:2");
    assert_string_equal(hb_yaml_place(doc, "sources.1.path"), "run.yaml:8");
    assert_string_equal(hb_yaml_place(doc, "train.steps"), "run.yaml");
    assert_string_equal(hb_yaml_place(doc, "model.heads"), "run.yaml:3");
    REFUSED(hb_yaml_fail(hb_yaml_get(doc, "sources.1.path"), "must be %s", "better"), HB_EFORMAT,
            "run.yaml:8: sources.1.path: must be better");
    hb_yaml_destroy(doc);
    hb_yaml_destroy(NULL);

    static const char *const empty[] = {"", "# nothing\n", "---\n", "~\n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        doc = parse(empty[i]);
        assert_int_equal(hb_yaml_get(doc, "")->count, 0);
        hb_yaml_destroy(doc);
    }
    const char *path = scratch_write("file.yaml", "a: 1\n", 5);
    OK(hb_yaml_load(path, &doc));
    assert_true(strstr(hb_yaml_place(doc, "a"), "/file.yaml:1") != NULL);
    hb_yaml_destroy(doc);
    unlink(path);
}

static void scalars(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *as_int; /* the message, or NULL when accepted */
        const char *as_float, *as_bool;
    } cases[] = {
        {"6", NULL, NULL, "must be true or false, got \"6\""},
        {"-0", NULL, NULL, "true or false"},
        {"+12", NULL, NULL, "true or false"},
        {"9223372036854775807", NULL, NULL, "true or false"},
        {"9223372036854775808", "must be an integer of 64 bits", NULL, "true or false"},
        {"six", "must be an integer, got \"six\"", "must be a number, got \"six\"", "true or false"},
        {"\"6\"", "must be an integer", "must be a number", "true or false"},
        {"6.0", "must be an integer", NULL, "true or false"},
        {"3e-4", "must be an integer", NULL, "true or false"},
        {".5", "must be an integer", NULL, "true or false"},
        {"5.", "must be an integer", NULL, "true or false"},
        {".", "must be an integer", "must be a number", "true or false"},
        {"1e", "must be an integer", "must be a number", "true or false"},
        {"e5", "must be an integer", "must be a number", "true or false"},
        {"0x10", "must be an integer", "must be a number", "true or false"},
        {"1_000", "must be an integer", "must be a number", "true or false"},
        {"-", "must be an integer", "must be a number", "true or false"},
        {".inf", "must be an integer", "must be a number", "true or false"},
        {"nan", "must be an integer", "must be a number", "true or false"},
        {"1e999", "must be an integer", "must be a finite number", "true or false"},
        {"true", "must be an integer", "must be a number", NULL},
        {"false", "must be an integer", "must be a number", NULL},
        {"yes", "must be an integer", "must be a number", "must be true or false, got \"yes\""},
        {"\"true\"", "must be an integer", "must be a number", "must be true or false"},
        {"[1]", "got a sequence", "got a sequence", "got a sequence"},
        {"{a: 1}", "got a map", "got a map", "got a map"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        int64_t integer;
        double number;
        bool truth;
        snprintf(text, sizeof text, "key: %s\n", strcmp(cases[i].text, "-") == 0 ? "'-'" : cases[i].text);
        struct hb_yaml *doc = parse(text);
        const struct hb_yaml_node *node = hb_yaml_get(doc, "key");
        hb_status status = hb_yaml_int(node, &integer);
        cases[i].as_int ? REFUSED(status, HB_EFORMAT, cases[i].as_int) : OK(status);
        status = hb_yaml_float(node, &number);
        cases[i].as_float ? REFUSED(status, HB_EFORMAT, cases[i].as_float) : OK(status);
        if (!cases[i].as_float)
            assert_true(number == strtod(cases[i].text, NULL));
        if (!cases[i].as_int)
            assert_true(integer == strtoll(cases[i].text, NULL, 10));
        status = hb_yaml_bool(node, &truth);
        cases[i].as_bool ? REFUSED(status, HB_EFORMAT, cases[i].as_bool) : OK(status);
        hb_yaml_destroy(doc);
    }
}

static void overrides(void **state)
{
    (void)state;
    struct hb_yaml *doc = parse("model:\n  heads: 6\nnone:\nsources:\n  - path: a\n");
    int64_t value;
    const char *text;
    OK(hb_yaml_set(doc, "model.heads=8"));
    OK(hb_yaml_int(hb_yaml_get(doc, "model.heads"), &value));
    assert_int_equal(value, 8);
    assert_string_equal(hb_yaml_place(doc, "model.heads"), "--set model.heads");
    OK(hb_yaml_set(doc, "model.heads=9"));
    OK(hb_yaml_int(hb_yaml_get(doc, "model.heads"), &value));
    assert_int_equal(value, 9);
    assert_int_equal(hb_yaml_get(doc, "model")->count, 1);

    OK(hb_yaml_set(doc, "a.b.c=x=y"));
    OK(hb_yaml_string(hb_yaml_get(doc, "a.b.c"), &text));
    assert_string_equal(text, "x=y");
    OK(hb_yaml_set(doc, "none.b=1"));
    assert_non_null(hb_yaml_get(doc, "none.b"));
    OK(hb_yaml_set(doc, "sources.0.path=[p, q]"));
    OK(hb_yaml_string(hb_yaml_get(doc, "sources.0.path.1"), &text));
    assert_string_equal(text, "q");
    OK(hb_yaml_set(doc, "a.b="));
    assert_true(hb_yaml_is_null(hb_yaml_get(doc, "a.b")));

    REFUSED(hb_yaml_set(doc, "model.heads.x=1"), HB_EFORMAT,
            "--set model.heads: model.heads: has no 'x', so --set model.heads.x cannot reach it");
    REFUSED(hb_yaml_set(doc, "sources.1=1"), HB_EFORMAT, "run.yaml:4: sources: has no '1'");
    static const char *const malformed[] = {
        "",       "=",    "a",
        "=1",     ".a=1", "a.=1",
        "a..b=1", "a.b",  "1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9.1.2.3.4.5.6=1"};
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        REFUSED(hb_yaml_set(doc, malformed[i]), HB_EFORMAT, "must have the form path.to.key=value");
    REFUSED(hb_yaml_set(doc, "a.c=[1"), HB_EFORMAT, "--set a.c: did not find expected");
    REFUSED(hb_yaml_set(doc, "a.c=*x"), HB_EFORMAT, "--set a.c: aliases");
    REFUSED(hb_yaml_set(doc, "a.c={x: 1, x: 2}"), HB_EFORMAT, "--set a.c: x: given twice");
    assert_null(hb_yaml_get(doc, "a.c"));
    hb_yaml_destroy(doc);
}

enum optimizer { ADAMW, SGD };
static const char *const optimizers[] = {"adamw", "sgd", NULL};

struct run {
    int64_t heads, width, steps;
    double rate, beta;
    bool shuffle;
    const char *name, *init_from;
    int optimizer;
    const struct hb_yaml_node *files;
};

static const struct hb_yaml_field fields[] = {
    {"name", HB_YAML_STRING, offsetof(struct run, name), .fallback = "run"},
    {"init_from", HB_YAML_STRING, offsetof(struct run, init_from), .fallback = "null"},
    {"model.heads", HB_YAML_INT, offsetof(struct run, heads), .min = 1, .max = 128},
    {"model.width", HB_YAML_INT, offsetof(struct run, width), .fallback = "256", .min = 1, .max = INFINITY},
    {"train.steps", HB_YAML_INT, offsetof(struct run, steps), .fallback = "100", .min = -INFINITY,
     .max = 1000},
    {"train.adam.rate", HB_YAML_FLOAT, offsetof(struct run, rate), .fallback = "3e-4", .min = 0,
     .max = INFINITY, .open_min = true},
    {"train.adam.beta", HB_YAML_FLOAT, offsetof(struct run, beta), .fallback = "0.9", .min = 0, .max = 1,
     .open_max = true},
    {"train.optimizer", HB_YAML_ENUM, offsetof(struct run, optimizer), .fallback = "adamw",
     .names = optimizers},
    {"data.shuffle", HB_YAML_BOOL, offsetof(struct run, shuffle), .fallback = "true"},
    {"data.files", HB_YAML_NODE, offsetof(struct run, files), .fallback = "null"},
    {"train.last", HB_YAML_BOOL, offsetof(struct run, shuffle), .fallback = "false"},
};
/* Without train.last, which only shows that emission gathers what is apart. */
enum { FIELDS = sizeof fields / sizeof fields[0] - 1 };

static void bind_good(void **state)
{
    (void)state;
    struct hb_yaml *doc = parse("model:\n  heads: 6\n  width:\n"
                                "train: {optimizer: sgd, adam: {beta: 0}}\n"
                                "name: 2024\n"
                                "data:\n  shuffle: false\n  files: [a.txt, {path: b}]\n");
    struct run run;
    OK(hb_yaml_set(doc, "train.adam.rate=1e-3"));
    OK(hb_yaml_bind(doc, fields, FIELDS, &run));
    assert_int_equal(run.heads, 6);
    assert_int_equal(run.width, 256);
    assert_int_equal(run.steps, 100);
    assert_true(run.rate == 1e-3 && run.beta == 0);
    assert_false(run.shuffle);
    assert_string_equal(run.name, "2024");
    assert_null(run.init_from);
    assert_int_equal(run.optimizer, SGD);
    assert_int_equal(run.files->count, 2);
    hb_yaml_destroy(doc);
}

static void refuse_binding(const char *text, const char *message)
{
    struct hb_yaml *doc = parse(text);
    struct run run;
    REFUSED(hb_yaml_bind(doc, fields, FIELDS, &run), HB_EFORMAT, message);
    hb_yaml_destroy(doc);
}

static void bind_bad(void **state)
{
    (void)state;
    refuse_binding("", "run.yaml: model.heads is missing; it must be an integer");
    refuse_binding("model:\n", "run.yaml: model.heads is missing");
    refuse_binding("model:\n  heads: six\n", "run.yaml:2: model.heads: must be an integer, got \"six\"");
    refuse_binding("model:\n  heads: 0\n",
                   "run.yaml:2: model.heads: must be at least 1 and at most 128, got 0");
    refuse_binding("model: {heads: 129}\n", "model.heads: must be at least 1 and at most 128, got 129");
    refuse_binding("model: {heads: 1, width: 0}\n", "model.width: must be at least 1, got 0");
    refuse_binding("model: {heads: 1}\ntrain:\n  steps: 1001\n",
                   "run.yaml:3: train.steps: must be at most 1000");
    refuse_binding("model: {heads: 1}\ntrain: {adam: {rate: 0}}\n",
                   "train.adam.rate: must be above 0, got 0");
    refuse_binding("model: {heads: 1}\ntrain: {adam: {beta: 1}}\n", "must be at least 0 and below 1, got 1");
    refuse_binding("model: {heads: 1}\ntrain: {optimizer: adam}\n",
                   "run.yaml:2: train.optimizer: must be one of adamw, sgd, got \"adam\"");
    refuse_binding("model: {heads: 1}\ndata: {shuffle: yes}\n", "data.shuffle: must be true or false");
    refuse_binding("model: {heads: [1]}\n", "model.heads: must be an integer, got a sequence");
    refuse_binding("model: {heads: {a: 1}}\n", "model.heads: must be an integer, got a map");
    refuse_binding("model: 5\n", "run.yaml:1: model: must be a map of keys and values");
    refuse_binding("model: [1]\n", "run.yaml:1: model: must be a map of keys and values");

    refuse_binding("model:\n  heads: 6\n  widht: 5\n",
                   "run.yaml:3: model.widht: unknown key; did you mean model.width?");
    refuse_binding("modle:\n  heads: 6\n", "run.yaml:1: modle: unknown key; did you mean model?");
    refuse_binding("heads: 6\n", "run.yaml:1: heads: unknown key; did you mean model.heads?");
    refuse_binding("model: {steps: 6}\n", "model.steps: unknown key; did you mean train.steps?");
    refuse_binding("entirely: 6\n", "run.yaml:1: entirely: unknown key");
    refuse_binding("<<: 6\n", "<<: unknown key");
    char text[400];
    memset(text, 'k', sizeof text);
    strcpy(text + 380, ": 1\n");
    refuse_binding(text, "unknown key");

    struct hb_yaml *doc = parse("");
    struct run run;
    OK(hb_yaml_set(doc, "model.heads=x"));
    REFUSED(hb_yaml_bind(doc, fields, FIELDS, &run), HB_EFORMAT,
            "--set model.heads: model.heads: must be an integer, got \"x\"");
    OK(hb_yaml_set(doc, "model.heads=2"));
    OK(hb_yaml_set(doc, "train.stesp=2"));
    REFUSED(hb_yaml_bind(doc, fields, FIELDS, &run), HB_EFORMAT,
            "--set train.stesp: train.stesp: unknown key; did you mean train.steps?");
    hb_yaml_destroy(doc);
}

static void emit(void **state)
{
    (void)state;
    struct hb_yaml *doc = parse("model: {heads: 6}\n"
                                "name: 'a \"b\" \\ #: \xe4\xb8\xad'\n"
                                "data: {files: [a.txt, 'x, y', 5, 1e5, ~, {path: \"6\", w: 0.5}, []]}\n");
    struct run run, again;
    OK(hb_yaml_bind(doc, fields, FIELDS, &run));
    run.rate = 1e-5;
    run.beta = 0.1 + 0.2;
    char *text;
    OK(hb_yaml_emit(fields, FIELDS + 1, &run, &text));
    assert_string_equal(text, "name: \"a \\\"b\\\" \\\\ #: \xe4\xb8\xad\"\n"
                              "init_from: null\n"
                              "model:\n"
                              "  heads: 6\n"
                              "  width: 256\n"
                              "train:\n"
                              "  steps: 100\n"
                              "  adam:\n"
                              "    rate: 1.0e-05\n"
                              "    beta: 0.30000000000000004\n"
                              "  optimizer: adamw\n"
                              "  last: true\n"
                              "data:\n"
                              "  shuffle: true\n"
                              "  files: [a.txt, \"x, y\", 5, 1e5, null, {path: \"6\", w: 0.5}, []]\n");
    free(text);

    /* What was written reads back the same, and is then written the same. */
    OK(hb_yaml_emit(fields, FIELDS, &run, &text));
    struct hb_yaml *second = parse(text);
    char *text_again;
    OK(hb_yaml_bind(second, fields, FIELDS, &again));
    OK(hb_yaml_emit(fields, FIELDS, &again, &text_again));
    assert_string_equal(text, text_again);
    assert_string_equal(again.name, run.name);
    assert_true(again.rate == run.rate && again.beta == run.beta);
    free(text_again);
    free(text);
    hb_yaml_destroy(second);
    hb_yaml_destroy(doc);
}

static void emitted_strings_survive(void **state)
{
    (void)state;
    static const char *const strings[] = {"",
                                          "plain/word-1.txt",
                                          "null",
                                          "~",
                                          "NULL",
                                          "yes",
                                          "True",
                                          "12",
                                          "1e5",
                                          "- a",
                                          "a: b",
                                          "#",
                                          "a #b",
                                          " a",
                                          "a ",
                                          "\t\n\x01\x7f",
                                          "'",
                                          "\"",
                                          "\\n",
                                          "[a]",
                                          "{",
                                          "&a",
                                          "*a",
                                          "!a",
                                          "%",
                                          "@",
                                          "a\r\nb",
                                          "\xe4\xb8\xad",
                                          "\xc2\x85",
                                          "\xc2\x80",
                                          "\xe2\x80\xa8\xe2\x80\xa9",
                                          "\xef\xbb\xbf",
                                          "\xef\xbf\xbe",
                                          "\xf0\x9f\x98\x80",
                                          "-",
                                          "."};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        struct run run = {.name = strings[i], .heads = 1, .width = 1}, again;
        run.rate = 1;
        char *text;
        OK(hb_yaml_emit(fields, FIELDS, &run, &text));
        struct hb_yaml *doc = parse(text);
        OK(hb_yaml_bind(doc, fields, FIELDS, &again));
        if (!again.name || strcmp(again.name, strings[i]) != 0)
            fail_msg("\"%s\" came back as \"%s\" from\n%s", strings[i], again.name ? again.name : "(null)",
                     text);
        free(text);
        hb_yaml_destroy(doc);
    }
}

/* Any bytes changed: refused or read and bound, never a crash. */
static void mutations(void **state)
{
    (void)state;
    static const char good[] = "model:\n  heads: 6 # six\ntrain: {optimizer: sgd, adam: {beta: 0.5}}\n"
                               "data:\n  shuffle: false\n  files:\n    - \"a.txt\"\n    - 'b'\n";
    uint32_t random = 7;
    int bound = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        for (int change = 0; change <= round % 5; change++) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % (sizeof good - 1)] =
                (random & 128) ? (char)(random >> 24) : "&*!:-[]{},\n \"'#?|>%@"[random % 20];
        }
        struct hb_yaml *doc;
        struct run run;
        hb_status status = hb_yaml_parse("run.yaml", text, sizeof good - 1, &doc);
        if (status == HB_OK)
            status = hb_yaml_bind(doc, fields, FIELDS, &run);
        assert_true(status == HB_OK || status == HB_EFORMAT);
        bound += status == HB_OK;
        refused += status != HB_OK;
        if (status == HB_OK) {
            char *emitted;
            OK(hb_yaml_emit(fields, FIELDS, &run, &emitted));
            struct hb_yaml *again = parse(emitted);
            OK(hb_yaml_bind(again, fields, FIELDS, &run));
            hb_yaml_destroy(again);
            free(emitted);
        }
        hb_yaml_destroy(doc);
    }
    assert_true(bound > 100 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_texts),
        cmocka_unit_test(hostile_sizes),
        cmocka_unit_test(tree_and_places),
        cmocka_unit_test(scalars),
        cmocka_unit_test(overrides),
        cmocka_unit_test(bind_good),
        cmocka_unit_test(bind_bad),
        cmocka_unit_test(emit),
        cmocka_unit_test(emitted_strings_survive),
        cmocka_unit_test(mutations),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
