/* Queues of the emulated device: pieces of work end one behind the other, whichever queue is looked at. */
#include "emulator/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                        \
    do {                                \
        if ((call) != HB_OK)            \
            fail_msg("%s", hb_error()); \
    } while (0)

/* Is asked `left` times before it is done; then it says when that was. */
struct task {
    int left, number, *counter;
    bool fails, released;
};

static hb_status go_on(void *state, bool *done)
{
    struct task *t = state;
    if (t->fails)
        return HB_FAIL(HB_EIO, "the task failed");
    *done = t->left-- == 0;
    if (*done)
        t->number = ++*t->counter;
    return HB_OK;
}

static void release(void *state)
{
    ((struct task *)state)->released = true;
}

static void add(struct hb_emulator_queue *queue, struct task *t)
{
    OK(hb_emulator_queue_add(queue, (struct hb_emulator_work){go_on, release, t}));
}

static struct hb_emulator *device;

static void test_order(void **state)
{
    (void)state;
    struct hb_emulator_queue *a, *b;
    int counter = 0;
    struct task slow = {3, 0, &counter, false, false}, behind = {0, 0, &counter, false, false},
                other = {1, 0, &counter, false, false};
    OK(hb_emulator_queue_create(device, &a));
    OK(hb_emulator_queue_create(device, &b));
    assert_ptr_equal(hb_emulator_queue_device(b), device);
    add(a, &slow);
    add(a, &behind);
    add(b, &other);
    assert_int_equal(hb_emulator_queue_count(a), 2);
    bool passed;
    OK(hb_emulator_queue_passed(a, 0, &passed));
    assert_true(passed && counter == 0);
    OK(hb_emulator_queue_passed(a, 1, &passed)); /* and the other queue moves, too */
    assert_true(!passed && other.number == 1 && other.released);
    OK(hb_emulator_queue_passed(b, 1, &passed));
    assert_true(passed && slow.number == 0);
    OK(hb_emulator_queue_passed(a, 2, &passed));
    assert_true(passed && slow.number == 2 && behind.number == 3);
    hb_emulator_queue_destroy(a);
    hb_emulator_queue_destroy(b);
}

static void test_failure(void **state)
{
    (void)state;
    struct hb_emulator_queue *queue, *innocent;
    int counter = 0;
    struct task bad = {0, 0, &counter, true, false}, behind = {0, 0, &counter, false, false},
                good = {0, 0, &counter, false, false};
    OK(hb_emulator_queue_create(device, &queue));
    OK(hb_emulator_queue_create(device, &innocent));
    add(queue, &bad);
    add(queue, &behind);
    add(innocent, &good);
    bool passed;
    OK(hb_emulator_queue_passed(innocent, 1, &passed));
    assert_true(passed);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hb_emulator_queue_passed(queue, 1, &passed), HB_EIO);
        assert_string_equal(hb_error(), "the task failed");
        assert_true(!passed && behind.number == 0);
    }
    hb_emulator_queue_destroy(queue);
    assert_true(bad.released && behind.released);
    hb_emulator_queue_destroy(innocent);
    hb_emulator_queue_destroy(NULL);
}

static int open_device(void **state)
{
    (void)state;
    return hb_emulator_create(&device) != HB_OK;
}

static int close_device(void **state)
{
    (void)state;
    hb_emulator_destroy(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_failure)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
