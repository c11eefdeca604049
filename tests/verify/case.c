/* Files that are no golden cases are refused with what is wrong in them. */
#include "verify/support.h"

#include "core/file.h"

static char folder[] = "/tmp/hornbook-case-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/case.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return hb_folder_remove(folder);
}

/* A right case of column_sum, [3,2] to [2]; each test spoils one thing. */
struct recipe {
    const char *format, *op, *dtype, *args, *outputs;
    const char *input, *output, *terms; /* names; NULL: left out */
    enum hb_dtype input_dtype, output_dtype;
};

static const struct recipe right = {
    .format = "hornbook-golden 1",
    .op = "column_sum",
    .dtype = "F32",
    .args = "{\"epilogue\": \"STORE\"}",
    .outputs = "{\"out\": {\"dtype\": \"F32\", \"n\": 2}}",
    .input = "input.x",
    .output = "output.out",
    .terms = "abs.out",
    .input_dtype = HB_F32,
    .output_dtype = HB_F64,
};

static void write_case(const struct recipe *r)
{
    const float x[] = {1, 2, 3, 4, 5, 6}, terms[] = {9, 12};
    const double sums[] = {9, 12};
    const int64_t two = 2;
    struct hb_safetensors_writer *w;
    OK(hb_safetensors_writer_create(path, &w));
    const char *const metadata[][2] = {{"format", r->format}, {"op", r->op},     {"case", "a test"},
                                       {"dtype", r->dtype},   {"args", r->args}, {"outputs", r->outputs}};
    for (int i = 0; i < 6; i++)
        if (metadata[i][1])
            OK(hb_safetensors_writer_metadata(w, metadata[i][0], metadata[i][1]));
    if (r->output)
        OK(hb_safetensors_writer_declare(w, r->output, r->output_dtype, 1, &two));
    if (r->input)
        OK(hb_safetensors_writer_declare(w, r->input, r->input_dtype, 2, (int64_t[]){3, 2}));
    if (r->terms)
        OK(hb_safetensors_writer_declare(w, r->terms, HB_F32, 1, &two));
    if (r->output)
        OK(hb_safetensors_writer_write(w, r->output, sums, 2 * hb_dtype_size(r->output_dtype)));
    if (r->input)
        OK(hb_safetensors_writer_write(w, r->input, x, 6 * hb_dtype_size(r->input_dtype)));
    if (r->terms)
        OK(hb_safetensors_writer_write(w, r->terms, terms, sizeof terms));
    OK(hb_safetensors_writer_finish(w, NULL));
    hb_safetensors_writer_destroy(w);
}

static void expect_refusal(struct recipe r, const char *text)
{
    struct hb_case c;
    write_case(&r);
    REFUSED(hb_case_open(path, &c), text);
    REFUSED(hb_case_open(path, &c), "case.safetensors: ");
}

static void test_right(void **state)
{
    struct hb_context subject, ref;
    struct hb_verdict v;
    struct hb_case c;
    (void)state;
    write_case(&right);
    OK(hb_case_open(path, &c));
    assert_string_equal(c.label, "a test");
    open_backend("ref", HB_CANONICAL, &ref);
    open_backend("cpu", HB_CANONICAL, &subject);
    OK(hb_verify_case(&c, &subject, &ref, &v));
    assert_true(v.passed && v.same_bits && v.share == 0);
    hb_context_close(&subject);
    hb_context_close(&ref);
    hb_case_close(&c);
}

#define SPOILT(member, value, text)                                                                          \
    do {                                                                                                     \
        struct recipe spoilt = right;                                                                        \
        spoilt.member = (value);                                                                             \
        expect_refusal(spoilt, (text));                                                                      \
    } while (0)

static void test_metadata(void **state)
{
    (void)state;
    SPOILT(format, NULL, "lacks 'format'");
    SPOILT(format, "hornbook-golden 2", "must be 'hornbook-golden 1'");
    SPOILT(op, "collumn_sum", "op 'collumn_sum' is unknown");
    SPOILT(dtype, "float", "dtype 'float' is unknown");
    SPOILT(args, "{\"epilog\": \"STORE\"}", "no argument 'epilog'");
    SPOILT(args, "[1]", "must be a JSON object");
    SPOILT(args, "{", "args:1:");
}

static void test_tensors(void **state)
{
    (void)state;
    SPOILT(input, "input.xx", "has 3 tensors, of which op column_sum knows 2");
    SPOILT(output, "output.x", "only reads x");
    SPOILT(terms, NULL, "needs abs.out");
    SPOILT(terms, "abs.outt", "needs abs.out");
    SPOILT(output_dtype, HB_F32, "must be F64");
    SPOILT(outputs, "{}", "'out'");
    SPOILT(outputs, "{\"out\": {\"dtype\": \"F32\", \"n\": 0}}", "is exact, must be F32");
    SPOILT(outputs, "{\"out\": {\"dtype\": \"F32\", \"n\": -1}}", "negative");
    SPOILT(outputs, "{\"out\": {\"dtype\": \"I32\", \"n\": 1}}", "its n must be 0");
}

/* What only the call can find out is a failed verdict or a refusal by ref, never a crash. */
static void test_call(void **state)
{
    static const struct {
        const char *args, *text;
    } rows[] = {
        {"{}", "'epilogue'"},
        {"{\"epilogue\": \"CONTINU\"}", "epilogue must be STORE, CONTINUE or ADD"},
        {"{\"epilogue\": \"CONTINUE\"}", "column_sum"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct recipe r = right;
        struct hb_case_results results;
        struct hb_context ref;
        struct hb_case c;
        r.args = rows[i].args;
        write_case(&r);
        OK(hb_case_open(path, &c));
        open_backend("ref", HB_CANONICAL, &ref);
        REFUSED(hb_case_run(&c, &ref, &results), rows[i].text);
        hb_context_close(&ref);
        hb_case_close(&c);
    }
}

static void test_place(void **state)
{
    struct hb_case c;
    char text[64];
    (void)state;
    write_case(&right);
    OK(hb_case_open(path, &c));
    assert_string_equal(hb_case_place(&c, 0, 5, text, sizeof text), "x[2,1]");
    assert_string_equal(hb_case_place(&c, 1, 1, text, sizeof text), "out[1]");
    hb_case_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right), cmocka_unit_test(test_metadata), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_call),  cmocka_unit_test(test_place),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
