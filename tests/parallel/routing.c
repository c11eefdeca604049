/* The router's choices out of a timeline: what was written is read, and what is missing is named. */
#include "core/scratch.h"

#include "parallel/routing.h"
#include "parallel/timeline.h"

/* Two ranks, each with one of two microbatches; steps 1 and 2 of a model of two layers of three experts. */
static void write_timeline(void)
{
    static const int64_t counts[2][2][3] = {{{1, 2, 3}, {6, 0, 0}}, {{0, 0, 6}, {2, 2, 2}}};
    for (int r = 0; r < 2; r++) {
        struct hb_timeline *t;
        OK(hb_timeline_create(scratch_folder, r, "", &t));
        for (int64_t step = 1; step <= 2; step++) {
            hb_timeline_step(t, step);
            for (int64_t l = 0; l < 2 - (step == 2); l++)
                hb_timeline_routing(t, r, l, counts[r][l], 3);
            hb_timeline_memory(t, (int64_t[HB_FOOTPRINTS]){step});
        }
        OK(hb_timeline_destroy(t));
    }
    OK(hb_timeline_merge(scratch_folder));
}

static void test_read(void **state)
{
    (void)state;
    struct hb_routed r;
    write_timeline();
    OK(hb_routing_load(scratch_folder, 1, 2, 2, 3, &r));
    assert_int_equal(hb_routing_rows(&r, 0, 0, 0, 3), 6);
    assert_int_equal(hb_routing_rows(&r, 0, 0, 1, 3), 5);
    assert_int_equal(hb_routing_rows(&r, 0, 1, 0, 1), 6);
    assert_int_equal(hb_routing_rows(&r, 1, 0, 0, 2), 0);
    assert_int_equal(hb_routing_rows(&r, 1, 1, 2, 3), 2);
    hb_routing_release(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    struct hb_routed r;
    REFUSED(hb_routing_load(scratch_folder, 2, 2, 2, 3, &r), HB_EFORMAT,
            "has no routing of step 2, microbatch 0, layer 1");
    REFUSED(hb_routing_load(scratch_folder, 3, 2, 2, 3, &r), HB_EFORMAT, "has no routing of step 3");
    REFUSED(hb_routing_load(scratch_folder, 1, 2, 2, 4, &r), HB_EFORMAT, "2 layers of 4 experts");
    REFUSED(hb_routing_load(scratch_folder, 1, 1, 2, 3, &r), HB_EFORMAT, "a step of 1 microbatches");
    REFUSED(hb_routing_load(scratch("none"), 1, 2, 2, 3, &r), HB_EIO, "timeline.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
