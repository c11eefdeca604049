/* What a training step asks of a device, seen on cuda-emulated: nothing is
 * allocated after the first steps, and the host waits only at the step's end,
 * however many microbatches the step has. */
#include "model/runs.h"

#include "backends/registry.h"
#include "gpu/memory.h"

static struct hb_emulator_counts step(struct run *run, int64_t s, int64_t M)
{
    struct hb_step_report report;
    struct hb_emulator_counts before = hb_emulator_counts(hb_emulated_stream(&run->context)), after;
    run_step(run, s, M, &report);
    after = hb_emulator_counts(hb_emulated_stream(&run->context));
    return (struct hb_emulator_counts){.allocations = after.allocations - before.allocations,
                                       .launches = after.launches - before.launches,
                                       .copies_in = after.copies_in - before.copies_in,
                                       .copies_out = after.copies_out - before.copies_out,
                                       .waits = after.waits - before.waits};
}

static void test_steps(void **state)
{
    (void)state;
    const struct hb_backend *emulated;
    if (hb_backend_find("cuda-emulated", &emulated) != HB_OK)
        skip(); /* built without a C++ compiler */
    for (int i = 0; i < run_shape_count; i++) {
        struct run run;
        run_open(&run, &run_shapes[i], emulated, 1, RUN_ROWS);
        step(&run, 0, 4);
        step(&run, 1, 4); /* the pool may have fitted one buffer differently */
        struct hb_emulator_counts four = step(&run, 2, 4), two = step(&run, 3, 2);
        if (four.allocations || two.allocations)
            fail_msg("%s: %d allocations in the third step, %d in the fourth", run_shapes[i].name,
                     (int)four.allocations, (int)two.allocations);
        if (four.copies_out + four.waits != two.copies_out + two.waits)
            fail_msg("%s: the host waits %d times in a step of 4 microbatches, %d in one of 2",
                     run_shapes[i].name, (int)(four.copies_out + four.waits),
                     (int)(two.copies_out + two.waits));
        assert_true(four.launches > two.launches && two.launches > 0);
        run_close(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
