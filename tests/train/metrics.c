/* metrics.jsonl: every line is JSON, numbers come back as they were, and a
 * resumed run goes on where its checkpoint stood. */
#include "train/metrics.h"

#include <math.h>

#include "core/json.h"
#include "core/scratch.h"

static struct hb_step_report report = {
    .loss = 2.0 / 3,
    .aux = 0.1,
    .z = 1e-300,
    .tokens = 48,
    .labels = 40,
    .verdict = {.grad_norm = 1.0 / 49, .learning_rate = 3e-4 / 7},
    .digest = "0123456789abcdef0123456789abcdef",
};

static struct hb_metrics_line line_of(int64_t step)
{
    return (struct hb_metrics_line){.step = step,
                                    .tokens = 48 * step,
                                    .report = &report,
                                    .loss_scale = 1,
                                    .tokens_per_second = 1234.5678901234567};
}

static void write_steps(const char *folder, int64_t keep, int64_t first, int64_t last)
{
    struct hb_metrics metrics;
    OK(hb_folder_create(scratch(folder)));
    OK(hb_metrics_open(&metrics, scratch(folder), keep, false));
    for (int64_t step = first; step <= last; step++) {
        struct hb_metrics_line line = line_of(step);
        OK(hb_metrics_write(&metrics, &line));
    }
    hb_metrics_close(&metrics);
}

static const char *path_in(const char *folder)
{
    char name[128];
    snprintf(name, sizeof name, "%s/metrics.jsonl", folder);
    return scratch(name);
}

/* The lines of a folder's file, parsed; json_decref is the caller's. */
static int read_lines(const char *folder, json_t **lines, int most)
{
    char *text;
    size_t size;
    int count = 0;
    OK(hb_file_read(path_in(folder), &text, &size));
    assert_true(size == 0 || text[size - 1] == '\n');
    for (size_t at = 0; at < size; count++) {
        size_t length = (size_t)((char *)memchr(text + at, '\n', size - at) - (text + at));
        assert_true(count < most);
        OK(hb_json_parse("metrics.jsonl", count + 1, text + at, length, 0, &lines[count]));
        at += length + 1;
    }
    free(text);
    return count;
}

static void assert_steps(const char *folder, int expected)
{
    json_t *lines[32];
    int count = read_lines(folder, lines, 32);
    assert_int_equal(count, expected);
    for (int i = 0; i < count; i++) {
        assert_int_equal(json_integer_value(json_object_get(lines[i], "step")), i + 1);
        json_decref(lines[i]);
    }
}

static double real(const json_t *line, const char *key)
{
    double value;
    OK(hb_json_real(line, "line", key, &value));
    return value;
}

static void test_numbers(void **state)
{
    (void)state;
    json_t *line;
    write_steps("numbers", 0, 1, 1);
    assert_int_equal(read_lines("numbers", &line, 1), 1);
    assert_true(real(line, "loss") == report.loss);
    assert_true(real(line, "grad_norm") == report.verdict.grad_norm);
    assert_true(real(line, "lr") == report.verdict.learning_rate);
    assert_true(real(line, "loss_scale") == 1);
    assert_true(real(line, "tokens_per_second") == 1234.5678901234567);
    assert_int_equal(json_integer_value(json_object_get(line, "tokens")), 48);
    assert_true(json_is_false(json_object_get(line, "skipped")));
    assert_string_equal(json_string_value(json_object_get(line, "digest")), report.digest);
    static const char *const absent[] = {"aux_loss", "z_loss", "expert_entropy", "held_out_loss"};
    for (int i = 0; i < 4; i++)
        assert_null(json_object_get(line, absent[i]));
    json_decref(line);
}

static void test_experts_and_evaluation(void **state)
{
    (void)state;
    json_t *lines[2];
    struct hb_metrics metrics;
    struct hb_metrics_line line = line_of(1);
    struct hb_step_report skipped = report;
    skipped.loss = (double)NAN;
    skipped.verdict.grad_norm = INFINITY;
    skipped.verdict.skipped = true;
    skipped.digest[0] = '\0';
    OK(hb_folder_create(scratch("experts")));
    OK(hb_metrics_open(&metrics, scratch("experts"), 0, false));
    line.experts = &(struct hb_expert_load){0, 0.25, 1.0 / 3, 3};
    line.evaluated = true;
    line.held_out_loss = 5.4321;
    OK(hb_metrics_write(&metrics, &line));
    line.step = 2;
    line.report = &skipped;
    OK(hb_metrics_write(&metrics, &line));
    hb_metrics_close(&metrics);
    assert_int_equal(read_lines("experts", lines, 2), 2);
    assert_true(real(lines[0], "aux_loss") == 0.1);
    assert_true(real(lines[0], "z_loss") == 1e-300);
    assert_true(real(lines[0], "experts_used") == 0);
    assert_true(real(lines[0], "experts_reached") == 0.25);
    assert_true(real(lines[0], "expert_entropy") == 1.0 / 3);
    assert_true(real(lines[0], "expert_max_over_mean") == 3);
    assert_true(real(lines[0], "held_out_loss") == 5.4321);
    assert_true(json_is_null(json_object_get(lines[1], "loss")));
    assert_true(json_is_null(json_object_get(lines[1], "grad_norm")));
    assert_true(json_is_true(json_object_get(lines[1], "skipped")));
    assert_null(json_object_get(lines[1], "digest"));
    json_decref(lines[0]);
    json_decref(lines[1]);
}

static void test_resume(void **state)
{
    (void)state;
    write_steps("resume", 0, 1, 9);
    assert_steps("resume", 9);
    write_steps("resume", 6, 7, 8); /* the checkpoint is of step 6 */
    assert_steps("resume", 8);
    write_steps("resume", 8, 9, 12); /* nothing to remove */
    assert_steps("resume", 12);
    write_steps("resume", 0, 1, 2); /* anew */
    assert_steps("resume", 2);
}

/* What a crash can leave: a line cut short. It goes, and all behind it. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const tails[] = {"{\"step\": 4, \"lo", "\n", "{\"loss\": 1}\n", "{\"step\": \"4\"}\n",
                                        "{\"step\": 40, \"tokens\": 1}\n{\"step\": 4}\n"};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        write_steps("damaged", 0, 1, 3);
        FILE *file = fopen(path_in("damaged"), "a");
        assert_non_null(file);
        fputs(tails[i], file);
        fclose(file);
        write_steps("damaged", 5, 4, 5);
        assert_steps("damaged", 5);
    }
}

static void test_tensorboard_beside(void **state)
{
    (void)state;
    struct hb_metrics metrics;
    struct hb_metrics_line line = line_of(1);
    OK(hb_folder_create(scratch("board")));
    OK(hb_metrics_open(&metrics, scratch("board"), 0, true));
    OK(hb_metrics_write(&metrics, &line));
    hb_metrics_close(&metrics);
    assert_int_equal(scratch_count(scratch("board")), 2);
    assert_null(metrics.lines);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct hb_metrics metrics;
    struct hb_metrics_line line = line_of(1);
    OK(hb_folder_create(scratch("full")));
    OK(hb_metrics_open(&metrics, scratch("full"), 0, false));
    scratch_limit_files(100);
    hb_status status = hb_metrics_write(&metrics, &line);
    scratch_limit_files(0);
    assert_int_equal(status, HB_EIO);
    hb_metrics_close(&metrics);
    REFUSED(hb_metrics_open(&metrics, scratch("missing"), 0, false), HB_EIO, "missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_experts_and_evaluation),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_tensorboard_beside),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
