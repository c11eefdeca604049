/* The learning rate, against the formula written down once more with the C
 * library's cosine. */
#include "train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static double expected(const struct hb_rate_schedule *s, double w, double update)
{
    double S = (double)s->updates, low = s->peak * s->final;
    if (update <= w)
        return s->peak * update / w;
    if (update >= S)
        return low;
    return low + (s->peak - low) * (1 + cos(acos(-1) * (update - w) / (S - w))) / 2;
}

static void check(struct hb_rate_schedule schedule, int64_t w)
{
    for (int64_t update = 1; update <= schedule.updates + 5; update++) {
        double want = expected(&schedule, (double)w, (double)update),
               got = hb_rate_at(&schedule, update);
        if (!(fabs(got - want) <= 1e-14 * schedule.peak))
            fail_msg("%lld updates, update %lld: %.17g, must be %.17g", (long long)schedule.updates,
                     (long long)update, got, want);
    }
}

static void test_formula(void **state)
{
    (void)state;
    check((struct hb_rate_schedule){3e-4, 0.05, 0.1, 100}, 5);
    check((struct hb_rate_schedule){3e-4, 0.05, 0.1, 101}, 6); /* rounded up */
    check((struct hb_rate_schedule){3e-4, 0.05, 0.1, 140}, 7); /* 0.05 * 140 is not above 7 */
    check((struct hb_rate_schedule){1, 0.05, 0.1, 1000003}, 50001);
    check((struct hb_rate_schedule){1, 0, 0.1, 20}, 0);
    check((struct hb_rate_schedule){1, 0.5, 0, 7}, 4);
    check((struct hb_rate_schedule){1, 1, 0.25, 8}, 8);
    check((struct hb_rate_schedule){1, 0.05, 1, 30}, 2);
}

static void test_landmarks(void **state)
{
    (void)state;
    struct hb_rate_schedule s = {0.01, 0.05, 0.1, 1000};
    assert_true(hb_rate_at(&s, 1) == 0.01 / 50);
    assert_true(hb_rate_at(&s, 50) == 0.01);
    assert_true(hb_rate_at(&s, 1000) == 0.01 * 0.1);
    assert_true(hb_rate_at(&s, 5000) == 0.01 * 0.1);
    for (int64_t update = 51; update <= 1000; update++)
        assert_true(hb_rate_at(&s, update) < hb_rate_at(&s, update - 1));
    struct hb_rate_schedule one = {0.01, 0.05, 0.1, 1};
    assert_true(hb_rate_at(&one, 1) == 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_landmarks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
