/* The table of ops against the headers: every member of every argument struct is
 * described, in order, with the right kind. */
#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>

#include <cmocka.h>

#include "core/file.h"
#include "ops/table.h"

enum { MEMBERS = 32, NAME = 64 };

struct members {
    char type[MEMBERS][NAME], name[MEMBERS][NAME];
    int count;
};

/* Blanks out comments. */
static void strip(char *text)
{
    for (char *c; (c = strstr(text, "/*"));) {
        char *end = strstr(c, "*/");
        assert_non_null(end);
        memset(c, ' ', (size_t)(end + 2 - c));
    }
}

/* "struct hb_tensor q, k" into the members q and k. */
static void take_declaration(char *declaration, struct members *out)
{
    char type[NAME] = "", *rest = declaration, *word;
    while (isspace((unsigned char)*rest))
        rest++;
    int words = strncmp(rest, "struct ", 7) == 0 || strncmp(rest, "enum ", 5) == 0 ? 2 : 1;
    for (int i = 0; i < words; i++) {
        word = strtok_r(i ? NULL : rest, " \n", &rest);
        assert_non_null(word);
        snprintf(type + strlen(type), NAME - strlen(type), i ? " %s" : "%s", word);
    }
    while ((word = strtok_r(NULL, " ,\n", &rest))) {
        assert_true(out->count < MEMBERS);
        snprintf(out->type[out->count], NAME, "%s", type);
        snprintf(out->name[out->count++], NAME, "%s", word);
    }
}

static void read_members(const char *header, const char *op, struct members *out)
{
    char path[4096], start[128], *text;
    const char *root = getenv("HB_SRCDIR");
    size_t size;
    snprintf(path, sizeof path, "%s/src/ops/%s.h", root ? root : ".", header);
    snprintf(start, sizeof start, "struct hb_%s_args {", op);
    assert_int_equal(hb_file_read(path, &text, &size), HB_OK);
    strip(text);
    char *begin = strstr(text, start), *end = begin ? strchr(begin, '}') : NULL;
    if (!end)
        fail_msg("%s does not define struct hb_%s_args", path, op);
    *end = '\0';
    begin += strlen(start);
    for (char *semicolon; (semicolon = strchr(begin, ';')); begin = semicolon + 1) {
        *semicolon = '\0';
        take_declaration(begin, out);
    }
    free(text);
}

static const char *kind_type(enum hb_op_number_kind kind)
{
    switch (kind) {
    case HB_NUMBER_INT:
        return "int64_t";
    case HB_NUMBER_FLOAT:
        return "float";
    case HB_NUMBER_BOOL:
        return "bool";
    case HB_NUMBER_FORM:
        return "enum hb_product_form";
    case HB_NUMBER_COMBINE:
        return "enum hb_attention_combine";
    default:
        return "enum hb_product_epilogue";
    }
}

static void test_every_member(void **state)
{
    (void)state;
    for (int i = 0; i < hb_op_count; i++) {
        const struct hb_op_entry *op = &hb_op_table[i];
        struct members m = {.count = 0};
        int tensors = 0, numbers = 0;
        read_members(op->header, op->name, &m);
        assert_true(m.count > 0);
        for (int j = 0; j < m.count; j++) {
            bool tensor = strcmp(m.type[j], "struct hb_tensor") == 0;
            if (tensor ? tensors == op->tensor_count : numbers == op->number_count)
                fail_msg("%s: %s is not described", op->name, m.name[j]);
            assert_string_equal(m.name[j], tensor ? op->tensors[tensors].name : op->numbers[numbers].name);
            if (!tensor)
                assert_string_equal(m.type[j], kind_type(op->numbers[numbers].kind));
            tensor ? tensors++ : numbers++;
        }
        assert_int_equal(tensors, op->tensor_count);
        assert_int_equal(numbers, op->number_count);
    }
}

/* Offsets ascend with the struct, so each belongs to its name. */
static void test_offsets(void **state)
{
    (void)state;
    for (int i = 0; i < hb_op_count; i++) {
        const struct hb_op_entry *op = &hb_op_table[i];
        for (int j = 1; j < op->tensor_count; j++)
            assert_true(op->tensors[j].offset >= op->tensors[j - 1].offset + sizeof(struct hb_tensor));
        for (int j = 1; j < op->number_count; j++)
            assert_true(op->numbers[j].offset > op->numbers[j - 1].offset);
        assert_ptr_equal(hb_op_find(op->name), op);
    }
    assert_null(hb_op_find("produce"));
}

static void test_use_follows_the_epilogue(void **state)
{
    (void)state;
    const struct hb_op_entry *op = hb_op_find("product");
    struct hb_product_args args = {.form = HB_PRODUCT_TN, .epilogue = HB_STORE};
    char text[32];
    assert_string_equal(op->tensors[2].name, "out");
    assert_int_equal(hb_op_use_of(&args, &op->tensors[2]), HB_WRITES);
    assert_int_equal(hb_op_use_of(&args, &op->tensors[0]), HB_READS);
    assert_string_equal(hb_op_number_text(&args, &op->numbers[0], text), "TN");
    assert_string_equal(hb_op_number_text(&args, &op->numbers[1], text), "STORE");
    args.epilogue = HB_ADD;
    assert_int_equal(hb_op_use_of(&args, &op->tensors[2]), HB_UPDATES);
    args.epilogue = HB_CONTINUE;
    assert_int_equal(hb_op_use_of(&args, &op->tensors[2]), HB_UPDATES);
    assert_ptr_equal(hb_op_tensor_of(&args, &op->tensors[2]), &args.out);
    struct hb_router_backward_args router = {.renormalise = true, .aux_factor = 0.1f, .aux_rows = -7};
    op = hb_op_find("router_backward");
    assert_string_equal(hb_op_number_text(&router, &op->numbers[0], text), "true");
    assert_string_equal(hb_op_number_text(&router, &op->numbers[1], text), "0x1.99999ap-4");
    assert_string_equal(hb_op_number_text(&router, &op->numbers[2], text), "-7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_member),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_use_follows_the_epilogue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
