/* The simulator against the formulas of the papers and a table of utilisations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "parallel/simulate.h"

#define OK(call)                                                  \
    do {                                                          \
        if ((call) != HB_OK)                                      \
            fail_msg("line %d: %s: %s", __LINE__, #call, hb_error()); \
    } while (0)

static int64_t peak_of(const struct hb_simulation *simulation)
{
    int64_t peak = 0;
    for (int r = 0; r < simulation->ranks; r++)
        if (simulation->rank[r].in_flight > peak)
            peak = simulation->rank[r].in_flight;
    return peak;
}

/* Four ranks, F = I = W = 1: utilisation in thousandths and activations in flight, in chunks. */
static void test_table(void **state)
{
    (void)state;
    static const char *const names[] = {"gpipe", "1f1b", "interleaved:2", "interleaved:4", "zb-h1", "zb-v"};
    static const struct {
        int64_t microbatches;
        int utilisation[6], in_flight[6];
    } rows[] = {
        {4, {571, 571, 727, 842, 800, 800}, {4, 4, 8, 16, 4, 8}},
        {8, {727, 727, 842, 914, 889, 941}, {8, 4, 11, 19, 4, 8}},
        {12, {800, 800, 889, 941, 923, 960}, {12, 4, 11, 19, 4, 8}},
        {16, {842, 842, 914, 955, 941, 970}, {16, 4, 11, 19, 4, 8}},
        {32, {914, 914, 955, 977, 970, 985}, {32, 4, 11, 19, 4, 8}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int n = 0; n < 6; n++)
            for (int messages = 0; messages < 2; messages++) {
                struct hb_schedule s;
                struct hb_simulation result;
                OK(hb_schedule_open(names[n], 4, rows[i].microbatches, &s));
                if (messages)
                    OK(hb_schedule_add_messages(&s));
                OK(hb_simulate_equal(&s, &result));
                assert_int_equal(lround(1000 * result.utilisation), rows[i].utilisation[n]);
                assert_int_equal(peak_of(&result), rows[i].in_flight[n]);
                hb_simulation_release(&result);
                hb_schedule_release(&s);
            }
}

static void test_smallest(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t smallest[3]; /* by costs below */
    } rows[] = {
        {"gpipe", {35, 35, 35}},        {"1f1b", {35, 35, 35}},         {"interleaved:2", {20, 20, 20}},
        {"interleaved:4", {12, 12, 12}}, {"interleaved:8", {8, 8, 8}}, {"zb-h1", {12, 18, 19}},
        {"zb-v", {6, 9, 8}},
    };
    /* equal; full recompute in I; much attention, which has no W */
    static const struct hb_stage_cost costs[] = {{1, 1, 1, 0}, {1, 2, 1, 0}, {1.2, 1.5, 0.8, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int c = 0; c < 3; c++) {
            int64_t m;
            double utilisation;
            OK(hb_smallest_microbatches(rows[i].name, 4, costs[c], 0.92, 100, &m, &utilisation));
            assert_int_equal(m, rows[i].smallest[c]);
            assert_true(utilisation >= 0.92);
        }
    int64_t m;
    double utilisation;
    OK(hb_smallest_microbatches("1f1b", 4, costs[0], 0.92, 34, &m, &utilisation));
    assert_int_equal(m, -1);
}

/* bubble = makespan - m (F + I + W), for costs that binary fractions hold exactly. */
static void check_bubble(const char *name, int p, int64_t m, struct hb_stage_cost c, double bubble)
{
    struct hb_schedule s;
    struct hb_simulation result;
    struct hb_stage_cost *stage;
    OK(hb_schedule_open(name, p, m, &s));
    stage = malloc((size_t)s.stages * sizeof *stage);
    assert_non_null(stage);
    double chunks = (double)s.stages / p;
    for (int i = 0; i < s.stages; i++)
        stage[i] = (struct hb_stage_cost){c.forward / chunks, c.input / chunks, c.weight / chunks, 0};
    OK(hb_simulate(&s, &(struct hb_costs){.stage = stage}, &result));
    if (result.makespan != (double)m * (c.forward + c.input + c.weight) + bubble)
        fail_msg("%s, %d ranks, %lld microbatches: makespan %g", name, p, (long long)m, result.makespan);
    free(stage);
    hb_simulation_release(&result);
    hb_schedule_release(&s);
}

static void test_formulas(void **state)
{
    (void)state;
    for (int p = 2; p <= 8; p *= 2) { /* chunks of 2 and 4: no rounding */
        struct hb_stage_cost c = {1, 1.25, 0.75, 0};
        double all = 3;
        for (int64_t m = 2 * p; m <= 4 * p; m += p) {
            check_bubble("gpipe", p, m, c, (p - 1) * all);
            check_bubble("1f1b", p, m, c, (p - 1) * all);
            check_bubble("interleaved", p, m, c, (p - 1) * all / 2);
            check_bubble("interleaved:4", p, m, c, (p - 1) * all / 4);
            check_bubble("zb-h1", p, m, (struct hb_stage_cost){1, 1, 1, 0}, p - 1);
            check_bubble("zb-v", p, m, (struct hb_stage_cost){1, 1, 1, 0}, (p - 1) * 0.5);
        }
    }
}

/* Two ranks, one microbatch: every second can be told. */
static void test_by_hand(void **state)
{
    (void)state;
    struct hb_schedule s;
    struct hb_simulation r;
    static const struct hb_stage_cost stage[] = {{1, 2, 3, 0.25}, {4, 5, 6, 0.25}};
    struct hb_costs costs = {.stage = stage, .message = 0.5, .overhead = 0.125};
    OK(hb_schedule_parse("h", "0GATHER 0F0 0I0 0RELEASE 0W0\n1GATHER 1F0 1I0 1RELEASE 1W0\n", &s));
    OK(hb_schedule_check(&s));
    OK(hb_simulate(&s, &costs, &r));
    /* 0F0 1.25; there 1.75; 1F0 5.75; 1I0 10.75; there 11.25; 0I0 13.25; 0W0 16.25; 1W0 16.75 */
    assert_true(r.rank[0].actions[4].end == 16.25 && r.rank[1].actions[4].end == 16.75 &&
                r.makespan == 16.75);
    assert_true(r.rank[0].busy == 6 && r.rank[1].busy == 15 && r.utilisation == 21 / 33.5);
    hb_simulation_release(&r);
    OK(hb_schedule_add_messages(&s));
    OK(hb_simulate(&s, &costs, &r));
    /* 0F0 1.25, sent 1.375, there 1.875, received 2; 1F0 6; 1I0 11, sent 11.125, there 11.625,
     * received 11.75; 0I0 13.75; 0W0 16.75 */
    const struct hb_schedule_row *row = &s.rows[0];
    for (int64_t i = 0; i < row->count; i++) {
        if (row->actions[i].kind == HB_ACTION_RECV_B) /* waits from the moment at which it has nothing else */
            assert_true(r.rank[0].actions[i].begin == 1.375 && r.rank[0].actions[i].end == 11.75);
        if (row->actions[i].kind == HB_ACTION_W)
            assert_true(r.rank[0].actions[i].end == 16.75);
    }
    hb_simulation_release(&r);
    hb_schedule_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
