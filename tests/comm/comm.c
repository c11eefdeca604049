/* Ranks: every operation, by as many ranks as the test is started with (tests/comm/ranks.sh). */
#include "comm/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                \
    do {                                        \
        if ((call) != HB_OK)                    \
            fail_msg("%s", hb_error());         \
    } while (0)

static struct hb_comm *world;
static int rank, size;

/* What rank `from` has for rank `to`: some bytes, sometimes none. */
static size_t share(int from, int to)
{
    return (size_t)((from * 7 + to * 3) % 5 * 1000);
}

static unsigned char content(int from, int to, size_t i)
{
    return (unsigned char)(from * 31 + to * 17 + (int)i);
}

static void exchange(void **state)
{
    (void)state;
    size_t out[64], in[64], out_all = 0, in_all = 0;
    for (int r = 0; r < size; r++) {
        out_all += out[r] = share(rank, r);
        in_all += in[r] = share(r, rank);
    }
    unsigned char *send = malloc(out_all + 1), *recv = malloc(in_all + 1), *at = send;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < out[r]; i++)
            *at++ = content(rank, r, i);
    struct hb_comm_traffic before = hb_comm_traffic(world);
    OK(hb_comm_exchange(world, send, out, recv, in));
    struct hb_comm_traffic after = hb_comm_traffic(world);
    at = recv;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < in[r]; i++)
            assert_int_equal(*at++, content(r, rank, i));
    assert_int_equal(after.bytes[HB_COMM_EXCHANGE] - before.bytes[HB_COMM_EXCHANGE], out_all - out[rank]);
    assert_int_equal(after.calls[HB_COMM_EXCHANGE] - before.calls[HB_COMM_EXCHANGE], size > 1);
    free(send);
    free(recv);
}

static void gather(void **state)
{
    (void)state;
    size_t bytes[64];
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)((r + 2) % 3);
    unsigned char recv[200], mine[2] = {(unsigned char)rank, (unsigned char)(rank + 100)};
    OK(hb_comm_gather(world, mine, recv, bytes));
    unsigned char *at = recv;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < bytes[r]; i++)
            assert_int_equal(*at++, (unsigned char)(r + 100 * (int)i));
}

/* A gather in two halves, with another one and an exchange of the same group between them. */
static void halves(void **state)
{
    (void)state;
    enum { LONG = 200000 }; /* more than MPI sends at once */
    size_t bytes[64];
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)(LONG + r);
    unsigned char *all = malloc((size_t)size * (LONG + 64)), *mine = all;
    for (int r = 0; r < rank; r++)
        mine += bytes[r];
    memset(mine, rank + 1, bytes[rank]);
    struct hb_comm_pending pending;
    struct hb_comm_traffic before = hb_comm_traffic(world);
    OK(hb_comm_gather_begin(world, mine, all, bytes, &pending));
    exchange(NULL);
    gather(NULL);
    hb_comm_progress(world);
    OK(hb_comm_gather_end(world, &pending));
    struct hb_comm_traffic after = hb_comm_traffic(world);
    assert_int_equal(after.calls[HB_COMM_GATHER] - before.calls[HB_COMM_GATHER], 2 * (size > 1));
    const unsigned char *at = all;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < bytes[r]; i++)
            assert_int_equal(*at++, r + 1);
    free(all);
}

static void broadcast(void **state)
{
    (void)state;
    for (int root = 0; root < size; root++) {
        int value = rank == root ? 1000 + root : -1;
        OK(hb_comm_broadcast(world, root, &value, sizeof value));
        assert_int_equal(value, 1000 + root);
    }
}

static void integers(void **state)
{
    (void)state;
    int64_t most[2] = {rank, -rank}, sum[2] = {rank, INT64_C(1) << 40};
    OK(hb_comm_max(world, most, 2));
    OK(hb_comm_sum(world, sum, 2));
    assert_int_equal(most[0], size - 1);
    assert_int_equal(most[1], 0);
    assert_int_equal(sum[0], size * (size - 1) / 2);
    assert_true(sum[1] == (INT64_C(1) << 40) * size);
}

/* Messages around a ring, two under way at once, arrive in order. */
static void messages(void **state)
{
    (void)state;
    if (size == 1)
        return;
    int out[2] = {rank, rank + 50}, in[2] = {-1, -1}, from = (rank + size - 1) % size;
    struct hb_comm_request requests[4];
    for (int i = 0; i < 2; i++) {
        OK(hb_comm_receive(world, from, &in[i], sizeof in[i], &requests[2 * i]));
        OK(hb_comm_send(world, (rank + 1) % size, &out[i], sizeof out[i], &requests[2 * i + 1]));
    }
    OK(hb_comm_wait(world, requests, 4));
    assert_int_equal(in[0], from);
    assert_int_equal(in[1], from + 50);
}

/* Groups of even and odd ranks, in reverse order. */
static void groups(void **state)
{
    (void)state;
    struct hb_comm *group;
    OK(hb_comm_split(world, rank % 2, -rank, "parity", &group));
    int n = hb_comm_size(group), mine = hb_comm_rank(group);
    assert_int_equal(n, (size + 1 - rank % 2) / 2);
    assert_int_equal(hb_comm_world_rank(group, mine), rank);
    for (int r = 1; r < n; r++)
        assert_int_equal(hb_comm_world_rank(group, r), hb_comm_world_rank(group, r - 1) - 2);
    int64_t one = 1;
    OK(hb_comm_sum(group, &one, 1));
    assert_int_equal(one, n);
    hb_comm_destroy(group);
}

/* One rank fails: all hear of it, and from whom. */
static void agreement(void **state)
{
    (void)state;
    OK(hb_comm_agree(world, HB_OK));
    int bad = size - 1;
    hb_status mine = rank == bad ? HB_FAIL(HB_ESHAPE, "the sky is down") : HB_OK;
    hb_status all = hb_comm_agree(world, mine);
    assert_int_equal(all, HB_ESHAPE);
    assert_non_null(strstr(hb_error(), "the sky is down"));
    if (rank != bad)
        assert_true(atoi(hb_error() + 5) == bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange),  cmocka_unit_test(gather),
        cmocka_unit_test(halves),    cmocka_unit_test(broadcast),
        cmocka_unit_test(integers),  cmocka_unit_test(messages), cmocka_unit_test(groups),
        cmocka_unit_test(agreement),
    };
    if (hb_comm_world(&world) != HB_OK)
        return 1;
    rank = hb_comm_rank(world);
    size = hb_comm_size(world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hb_comm_destroy(world);
    return failed;
}
