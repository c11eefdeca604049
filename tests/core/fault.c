/* Faults strike where, when and whom they should, and nobody else. */
#include "core/scratch.h"

#include <sys/wait.h>
#include <unistd.h>

#include "core/fault.h"

/* Runs steps 1 to 3 through all phases in a child; what it died of, 2 for an error, or 0. */
static int die(const char *text, int64_t attempt, int rank)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(1); /* ends a hang */
        if (hb_fault_arm(text, attempt, rank) != HB_OK)
            _exit(1);
        for (int step = 1; step <= 3; step++) {
            hb_fault_step(step);
            for (int p = HB_FAULT_FORWARD; p < HB_FAULT_PHASES; p++)
                if (hb_fault_point((enum hb_fault_phase)p) != HB_OK)
                    _exit(2);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_faults(void **state)
{
    (void)state;
    assert_int_equal(die(NULL, 0, 0), 0);
    assert_int_equal(die("", 0, 0), 0);
    assert_int_equal(die("fold@2", 0, 0), SIGKILL);
    assert_int_equal(die("fold@2", 0, 1), 0);
    assert_int_equal(die("fold@2/1", 0, 1), SIGKILL);
    assert_int_equal(die("fold@4", 0, 0), 0);
    assert_int_equal(die("hang:rename@1", 0, 0), SIGALRM);
    assert_int_equal(die("fail:shard@3/1", 0, 1), 2);
    assert_int_equal(die("fail:shard@3/1", 0, 2), 0);
    /* A word an attempt. */
    assert_int_equal(die("fold@2  - write@1 ", 0, 0), SIGKILL);
    assert_int_equal(die("fold@2  - write@1 ", 1, 0), 0);
    assert_int_equal(die("fold@2  - write@1 ", 2, 0), SIGKILL);
    assert_int_equal(die("fold@2  - write@1 ", 3, 0), 0);
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {"fold",     "fold@",      "fold@x", "fold@1/",
                                      "fold@1/x", "fold@1 x@1", "nap@1",  "fold@1/0x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        REFUSED(hb_fault_arm(bad[i], i == 5, 0), HB_EARGUMENT, "a fault is written as in fold@3/1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults), cmocka_unit_test(test_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
