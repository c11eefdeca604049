/* Timelines: what is written is valid JSON with the spans that were given, of all ranks, also after
 * a crash. */
#include "core/scratch.h"

#include "core/json.h"
#include "parallel/timeline.h"

static json_t *merged(void)
{
    json_t *root, *events;
    OK(hb_timeline_merge(scratch_folder));
    OK(hb_json_load(scratch("timeline.json"), 0, &root));
    OK(hb_json_array(root, "timeline", "traceEvents", &events));
    json_incref(events);
    json_decref(root);
    return events;
}

static const json_t *find(const json_t *events, const char *name, int rank)
{
    size_t i;
    json_t *event;
    json_array_foreach(events, i, event)
        if (strcmp(json_string_value(json_object_get(event, "name")), name) == 0 &&
            json_integer_value(json_object_get(event, "pid")) == rank)
            return event;
    fail_msg("no event %s of rank %d", name, rank);
    return NULL;
}

static double number(const json_t *event, const char *key)
{
    return json_number_value(json_object_get(event, key));
}

static void test_two_ranks(void **state)
{
    (void)state;
    struct hb_timeline *t[2];
    for (int r = 0; r < 2; r++) {
        OK(hb_timeline_create(scratch_folder, r, "pp \"0\"", &t[r]));
        hb_timeline_origin(t[r], 100);
        hb_timeline_step(t[r], 7);
    }
    hb_timeline_span(t[0], HB_SPAN_COMPUTE, "0F0", 100.5, 101.25, 1, 0, 0);
    hb_timeline_span(t[0], HB_SPAN_MESSAGE, "0SEND_F0", 101.25, 101.5, 1, 4096, 0);
    hb_timeline_span(t[1], HB_SPAN_WAIT, "1RECV_F0", 100, 101.5, 1, 4096, 0.25);
    hb_timeline_span(t[1], HB_SPAN_COMPUTE, "1F0", 101.5, 102, 1, 0, 0);
    struct hb_timeline_totals totals = hb_timeline_totals(t[1]);
    assert_true(totals.seconds[HB_SPAN_WAIT] == 1.5 && totals.seconds[HB_SPAN_COMPUTE] == 0.5);
    assert_int_equal(totals.bytes, 4096);
    assert_int_equal(totals.spans, 2);
    OK(hb_timeline_destroy(t[0]));
    OK(hb_timeline_destroy(t[1]));
    json_t *events = merged();
    assert_int_equal(json_array_size(events), 3 + 2 + 3 + 2);
    const json_t *f = find(events, "0F0", 0), *send = find(events, "0SEND_F0", 0),
                 *wait = find(events, "1RECV_F0", 1);
    assert_true(number(f, "ts") == 5e5 && number(f, "dur") == 7.5e5 && number(f, "tid") == 0);
    assert_true(number(send, "tid") == 1 && number(json_object_get(send, "args"), "bytes") == 4096);
    assert_true(number(json_object_get(wait, "args"), "step") == 7);
    assert_true(number(json_object_get(wait, "args"), "waited") == 0.25e6);
    assert_string_equal(json_string_value(json_object_get(wait, "cat")), "wait");
    assert_string_equal(json_string_value(
                            json_object_get(json_object_get(find(events, "process_name", 1), "args"),
                                            "name")),
                        "rank 1: pp \"0\"");
    json_decref(events);
}

/* Every second counts once: for the innermost span. */
static void test_nested(void **state)
{
    (void)state;
    struct hb_timeline *t;
    OK(hb_timeline_create(scratch_folder, 3, "", &t));
    hb_timeline_begin(t);
    hb_timeline_begin(t);
    hb_timeline_span(t, HB_SPAN_EXPERTS, "exchange", 0, 1000, 1, 0, 0);
    hb_timeline_span(t, HB_SPAN_MESSAGE, "message", 0, 500, 1, 0, 0);
    hb_timeline_end(t, HB_SPAN_COMPUTE, "F");
    hb_timeline_end(t, HB_SPAN_OTHER, "step");
    struct hb_timeline_totals totals = hb_timeline_totals(t);
    const double *s = totals.seconds;
    assert_true(s[HB_SPAN_EXPERTS] == 1000 && s[HB_SPAN_MESSAGE] == 500);
    double action = s[HB_SPAN_COMPUTE] + 1000, step = s[HB_SPAN_OTHER] + action;
    assert_true(action >= 0 && action < 1 && step >= action && step < 1);
    assert_int_equal(totals.spans, 4);
    OK(hb_timeline_destroy(t));
    remove(scratch("timeline/rank-00003.jsonl"));
}

static void test_cut_short(void **state)
{
    (void)state;
    static const char text[] = "{\"name\":\"1F0\",\"pid\":1}\n{\"name\":\"1F";
    scratch_write("timeline/rank-00001.jsonl", text, sizeof text - 1);
    scratch_write("timeline/rank-00001.jsonl.bak", text, sizeof text - 1);
    json_t *events = merged();
    assert_int_equal(json_array_size(events), 3 + 2 + 1);
    json_decref(events);
}

static void test_nothing(void **state)
{
    (void)state;
    hb_timeline_origin(NULL, 1);
    hb_timeline_step(NULL, 1);
    hb_timeline_begin(NULL);
    hb_timeline_end(NULL, HB_SPAN_OTHER, "x");
    hb_timeline_span(NULL, HB_SPAN_WAIT, "x", 0, 1, 1, 0, 0);
    assert_int_equal(hb_timeline_totals(NULL).spans, 0);
    OK(hb_timeline_destroy(NULL));
    struct hb_timeline *t;
    REFUSED(hb_timeline_create("/dev/null/x", 0, "", &t), HB_EIO, "/dev/null");
}

static void test_full_disk(void **state)
{
    (void)state;
    struct hb_timeline *t;
    OK(hb_timeline_create(scratch_folder, 5, "", &t));
    scratch_limit_files(64);
    hb_timeline_span(t, HB_SPAN_WAIT, "x", 0, 1, 1, 0, 0);
    REFUSED(hb_timeline_destroy(t), HB_EIO, "rank-00005.jsonl");
    scratch_limit_files(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_ranks),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
