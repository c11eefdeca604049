/* A rank fails while the others wait for it, with messages under way in all directions: all end with the same
 * words, and nothing is under way any more. By as many ranks as it is started with (tests/comm/ranks.sh). */
#include "comm/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGE = 4 << 20 }; /* too long to be on its way before anybody wants it */

static struct hb_comm *world, *group;
static int rank, size;

static hb_status alone(void)
{
    return hb_comm_fail(world, HB_FAIL(HB_ESHAPE, "the sky is down"));
}

/* The last rank has sent to the first and waits for nobody; the others exchange with all. */
static hb_status among_others(char *send, char *recv, size_t *bytes)
{
    struct hb_comm_request request;
    if (rank < size - 1)
        return hb_comm_exchange(group, send, bytes, recv, bytes);
    hb_status status = hb_comm_send(world, 0, send, LARGE, &request);
    return status == HB_OK ? HB_FAIL(HB_ESHAPE, "the sky is down") : status;
}

static void failure(void **state)
{
    (void)state;
    if (size == 1) {
        assert_int_equal(alone(), HB_ESHAPE);
        assert_string_equal(hb_error(), "the sky is down");
        assert_true(hb_comm_is_whole() && hb_comm_speaks());
        return;
    }
    char wanted[64], *memory = calloc(2 * (size_t)size, LARGE);
    size_t *bytes = calloc((size_t)size, sizeof *bytes);
    assert_non_null(memory);
    assert_non_null(bytes);
    for (int r = 0; r < size; r++)
        bytes[r] = LARGE;
    hb_comm_set_timeout(60);
    assert_int_equal(hb_comm_split(world, 0, -rank, "backwards", &group), HB_OK);
    hb_status status = among_others(memory, memory + (size_t)size * LARGE, bytes);
    assert_int_equal(hb_comm_fail(world, status), HB_ESHAPE);
    snprintf(wanted, sizeof wanted, "rank %d: the sky is down", size - 1);
    assert_string_equal(hb_error(), wanted);
    assert_true(hb_comm_is_whole());
    assert_int_equal(hb_comm_speaks(), rank == 0);
    /* From now on all fails at once. */
    int64_t one = 1;
    assert_int_equal(hb_comm_sum(group, &one, 1), HB_ESHAPE);
    assert_string_equal(hb_error(), wanted);
    free(memory);
    free(bytes);
    hb_comm_destroy(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(failure)};
    if (hb_comm_world(&world) != HB_OK)
        return 1;
    rank = hb_comm_rank(world);
    size = hb_comm_size(world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hb_comm_destroy(world);
    return failed;
}
