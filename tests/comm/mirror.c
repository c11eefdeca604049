/* A mirror counts like a real rank and answers with what it was sent. */
#include "core/scratch.h"

#include "comm/mirror.h"

static void test_counts(void **state)
{
    (void)state;
    struct hb_comm *comm;
    OK(hb_comm_mirror(2, 5, "world", false, &comm));
    assert_int_equal(hb_comm_rank(comm), 2);
    assert_int_equal(hb_comm_size(comm), 5);
    int64_t value = 7;
    OK(hb_comm_max(comm, &value, 1));
    assert_int_equal(value, 7);
    OK(hb_comm_sum(comm, &value, 1));
    assert_int_equal(value, 35);
    OK(hb_comm_agree(comm, HB_OK));
    struct hb_comm_traffic t = hb_comm_traffic(comm);
    assert_int_equal(t.messages[HB_COMM_AGREE], 3 * 4);
    assert_int_equal(t.bytes[HB_COMM_AGREE], 3 * 4 * 8);
    hb_comm_destroy(comm);
}

/* Counts for others come back as theirs for this rank; sizes may differ. */
static void test_exchange(void **state)
{
    (void)state;
    struct hb_comm *comm;
    OK(hb_comm_mirror(1, 3, "experts", false, &comm));
    static const size_t send_bytes[3] = {8, 4, 4}, recv_bytes[3] = {4, 4, 8};
    static const int32_t send[4] = {10, 11, 20, 30};
    int32_t recv[4] = {-1, -1, -1, -1};
    OK(hb_comm_exchange(comm, send, send_bytes, recv, recv_bytes));
    static const int32_t expected[4] = {10, 20, 30, 0};
    assert_memory_equal(recv, expected, sizeof expected);
    struct hb_comm_traffic t = hb_comm_traffic(comm);
    assert_int_equal(t.messages[HB_COMM_EXCHANGE], 2);
    assert_int_equal(t.bytes[HB_COMM_EXCHANGE], 12);
    hb_comm_destroy(comm);
}

/* A blind one moves nothing: memory that nobody may touch stays untouched. */
static void test_blind(void **state)
{
    (void)state;
    struct hb_comm *comm;
    struct hb_comm_request request[2];
    size_t much = (size_t)1 << 40;
    OK(hb_comm_mirror(0, 2, "pipe", true, &comm));
    OK(hb_comm_receive(comm, 1, (void *)4096, much, &request[0]));
    OK(hb_comm_send(comm, 1, (void *)4096, much, &request[1]));
    OK(hb_comm_wait(comm, request, 2));
    assert_true(hb_comm_traffic(comm).bytes[HB_COMM_MESSAGE] == (int64_t)much);
    struct hb_comm *part;
    REFUSED(hb_comm_split(comm, 0, 0, "part", &part), HB_EUNSUPPORTED, "cannot know");
    hb_comm_destroy(comm);
}

/* Memory of a message that has come may be used for something else when the next one is sent. */
static void test_settled(void **state)
{
    (void)state;
    struct hb_comm *comm;
    struct hb_comm_request request;
    int32_t first = 1, second = 2;
    OK(hb_comm_mirror(0, 2, "pipe", false, &comm));
    OK(hb_comm_receive(comm, 1, &first, sizeof first, &request));
    OK(hb_comm_wait(comm, &request, 1));
    assert_int_equal(first, 0);
    OK(hb_comm_send(comm, 1, &second, sizeof second, &request));
    OK(hb_comm_wait(comm, &request, 1));
    assert_int_equal(first, 0);
    hb_comm_destroy(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_blind),
        cmocka_unit_test(test_settled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
