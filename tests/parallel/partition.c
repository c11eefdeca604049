/* Cutting a model into stages, against all cuts there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/philox.h"
#include "parallel/partition.h"

enum { BLOCKS = 9 };

/* Dearest stage and sum of squares of the best cut by trying each: a bit of `cuts` ends a stage. */
static void best(const double *cost, int blocks, int stages, double *dearest, double *squares)
{
    *dearest = *squares = -1;
    for (unsigned cuts = 0; cuts < 1u << (blocks - 1); cuts++) {
        double most = 0, sum = 0, stage = 0;
        if (__builtin_popcount(cuts) != stages - 1)
            continue;
        for (int b = 0; b < blocks; b++) {
            stage += cost[b];
            if (b == blocks - 1 || (cuts >> b & 1)) {
                most = stage > most ? stage : most;
                sum += stage * stage;
                stage = 0;
            }
        }
        if (*dearest < 0 || most < *dearest || (most == *dearest && sum < *squares)) {
            *dearest = most;
            *squares = sum;
        }
    }
}

static void test_best(void **state)
{
    (void)state;
    struct hb_random random = hb_random_stream(3, HB_PURPOSE_TEST, 0, 0);
    for (int trial = 0; trial < 60; trial++) {
        double cost[BLOCKS];
        for (int b = 0; b < BLOCKS; b++) /* whole numbers: sums are exact in any order */
            cost[b] = (double)(hb_random_u64(&random, (uint64_t)(trial * BLOCKS + b)) % 8);
        for (int stages = 1; stages <= BLOCKS; stages++) {
            int64_t begin[BLOCKS + 1];
            double dearest, squares, most = 0, sum = 0;
            assert_int_equal(hb_partition(cost, BLOCKS, stages, begin), HB_OK);
            best(cost, BLOCKS, stages, &dearest, &squares);
            assert_int_equal(begin[0], 0);
            assert_int_equal(begin[stages], BLOCKS);
            for (int s = 0; s < stages; s++) {
                double stage = 0;
                assert_true(begin[s] < begin[s + 1]);
                for (int64_t b = begin[s]; b < begin[s + 1]; b++)
                    stage += cost[b];
                most = stage > most ? stage : most;
                sum += stage * stage;
            }
            assert_true(most == dearest && sum == squares);
        }
    }
}

static void test_even(void **state)
{
    (void)state;
    static const double cost[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    int64_t begin[5];
    assert_int_equal(hb_partition(cost, 10, 4, begin), HB_OK);
    static const int64_t expected[] = {0, 2, 4, 7, 10};
    for (int s = 0; s <= 4; s++)
        assert_int_equal(begin[s], expected[s]);
    assert_int_equal(hb_partition(cost, 3, 4, begin), HB_EARGUMENT);
    assert_int_equal(hb_partition(cost, 3, 0, begin), HB_EARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_best), cmocka_unit_test(test_even)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
