/* The load of experts and ranks: values made by hand, and the lines of experts.jsonl. */
#include "train/expert_load.h"

#include <math.h>

#include "core/json.h"
#include "core/scratch.h"

/* A few roundings of numbers near log E. */
static const double tiny = 8 * 0x1p-53;

static void test_layers(void **state)
{
    (void)state;
    static const int64_t even[4] = {3, 3, 3, 3}, one[4] = {0, 8, 0, 0}, some[4] = {1, 2, 5, 0}, none[2] = {0};
    struct hb_layer_load l = hb_layer_load_of(even, 4);
    assert_true(l.rows == 12 && l.most == 3 && l.least == 3 && l.reached == 4 && l.used == 4);
    assert_true(fabs(l.entropy - 1) <= tiny);
    l = hb_layer_load_of(one, 4);
    assert_true(l.rows == 8 && l.most == 8 && l.least == 0 && l.reached == 1 && l.used == 1);
    assert_true(fabs(l.entropy) <= tiny);
    l = hb_layer_load_of(some, 4);
    assert_true(l.rows == 8 && l.most == 5 && l.least == 0 && l.reached == 3 && l.used == 3);
    double wanted = -(0.125 * log(0.125) + 0.25 * log(0.25) + 0.625 * log(0.625)) / log(4);
    assert_true(fabs(l.entropy - wanted) <= tiny);
    l = hb_layer_load_of(none, 2);
    assert_true(l.rows == 0 && l.reached == 0 && l.entropy == 1);
    assert_true(hb_layer_load_of(even, 1).entropy == 1);
    /* A tenth of the mean is enough to be of use, less is not: 4 experts, 40 rows. */
    static const int64_t edge[4] = {1, 0, 19, 20};
    assert_int_equal(hb_layer_load_of(edge, 4).used, 3);
}

static void test_step(void **state)
{
    (void)state;
    static const int64_t counts[8] = {3, 3, 3, 3, 0, 12, 0, 0};
    struct hb_expert_load load = hb_expert_load_of(counts, 2, 4);
    assert_true(load.used == 5.0 / 8 && load.reached == 5.0 / 8);
    assert_true(fabs(load.entropy - 0.5) <= tiny);
    assert_true(load.max_over_mean == 4);
    static const int64_t rows[6] = {6, 6, 3, 9, 0, 0}; /* three stages of two ranks */
    struct hb_rank_rows ranks = {rows, 6, 2};
    assert_true(hb_rank_rows_max_over_mean(&ranks) == 1.5);
}

static void test_lines(void **state)
{
    (void)state;
    static const int64_t counts[4] = {4, 0, 1, 3}, rows[2] = {5, 3};
    struct hb_rank_rows ranks = {rows, 2, 2};
    struct hb_expert_lines lines;
    for (int again = 0; again < 2; again++) { /* resumed at step 1 */
        OK(hb_expert_lines_open(&lines, scratch(""), again));
        for (int64_t step = 1 + again; step <= 3 - again; step++)
            OK(hb_expert_lines_write(&lines, step, counts, 2, 2, &ranks));
        hb_expert_lines_close(&lines);
    }
    char *text;
    size_t size;
    json_t *line;
    OK(hb_file_read(scratch("experts.jsonl"), &text, &size));
    char *second = strchr(text, '\n') + 1;
    assert_true(strchr(second, '\n') + 1 == text + size); /* two of them */
    OK(hb_json_parse("experts.jsonl", 2, second, strlen(second), 0, &line));
    json_t *wanted = json_pack("{s:i, s:[i,i], s:[i,i], s:[i,i], s:[i,i], s:[i,i]}", "step", 2, "rows", 4, 4,
                               "most", 4, 3, "least", 0, 1, "reached", 1, 2, "rank_rows", 5, 3);
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value)
        assert_true(json_equal(json_object_get(line, key), value));
    assert_true(json_real_value(json_object_get(line, "rank_max_over_mean")) == 1.25);
    assert_int_equal(json_array_size(json_object_get(line, "entropy")), 2);
    json_decref(wanted);
    json_decref(line);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers), cmocka_unit_test(test_step),
                                       cmocka_unit_test(test_lines)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
