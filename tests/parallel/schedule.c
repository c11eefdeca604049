/* Schedules as text, their generators, passes and validator. */
#include "core/scratch.h"

#include "parallel/schedule.h"
#include "parallel/simulate.h"

static const char *const names[] = {"gpipe", "1f1b", "interleaved", "interleaved:3", "zb-h1", "zb-v"};
enum { NAMES = sizeof names / sizeof names[0] };

/* --- text --- */

static void test_round_trip(void **state)
{
    (void)state;
    for (int n = 0; n < NAMES; n++) {
        struct hb_schedule a, b;
        char *text, *again;
        OK(hb_schedule_open(names[n], 3, 7, &a));
        OK(hb_schedule_add_messages(&a));
        OK(hb_schedule_add_gathers(&a, 1));
        OK(hb_schedule_text(&a, &text));
        OK(hb_schedule_parse(names[n], text, &b));
        OK(hb_schedule_check(&b));
        assert_int_equal(b.ranks, a.ranks);
        assert_int_equal(b.stages, a.stages);
        assert_int_equal(b.microbatches, a.microbatches);
        OK(hb_schedule_text(&b, &again));
        assert_string_equal(text, again);
        for (int r = 0; r < a.ranks; r++)
            for (int64_t i = 0; i < a.rows[r].count; i++)
                assert_int_equal(a.rows[r].actions[i].peer, b.rows[r].actions[i].peer);
        free(text);
        free(again);
        hb_schedule_release(&a);
        hb_schedule_release(&b);
    }
}

static void test_forms(void **state)
{
    (void)state;
    struct hb_schedule s;
    char *text;
    /* Comments, empty cells, line ends of either kind, no line end at the last. */
    OK(hb_schedule_parse("x", "# two ranks\n\n0F0,0F1,,0B0, 0B1 # as a table\r\n\t,1F0 ,1B0,1F1,1B1", &s));
    OK(hb_schedule_check(&s));
    OK(hb_schedule_text(&s, &text));
    assert_string_equal(text, "# x\n0F0 0F1 0B0 0B1\n1F0 1B0 1F1 1B1\n");
    free(text);
    hb_schedule_release(&s);
}

static void test_bad_text(void **state)
{
    (void)state;
    struct hb_schedule s;
    REFUSED(hb_schedule_parse("f", "0F0\n0F1 F2\n", &s), HB_EFORMAT,
            "f:2:5: an action begins with its stage");
    REFUSED(hb_schedule_parse("f", "0X0", &s), HB_EFORMAT, "f:1:2: after the stage");
    REFUSED(hb_schedule_parse("f", "0RECV_", &s), HB_EFORMAT, "f:1:2: after the stage");
    REFUSED(hb_schedule_parse("f", "0F", &s), HB_EFORMAT, "f:1:3: here comes the number");
    REFUSED(hb_schedule_parse("f", "0F-1", &s), HB_EFORMAT, "f:1:3: here comes the number");
    REFUSED(hb_schedule_parse("f", "0F99999999999999999999", &s), HB_EFORMAT, "f:1:3: here comes the number");
    REFUSED(hb_schedule_parse("f", "99999F0", &s), HB_EFORMAT, "f:1:1: an action begins with its stage");
    REFUSED(hb_schedule_parse("f", "0F0x", &s), HB_EFORMAT,
            "f:1:4: a space or a comma ends an action, not 'x'");
    REFUSED(hb_schedule_parse("f", "0GATHER1", &s), HB_EFORMAT, "f:1:8: a space or a comma");
    REFUSED(hb_schedule_parse("f", "# nothing\n", &s), HB_EFORMAT, "f: holds no actions");
    REFUSED(hb_schedule_parse("f", "0F0 0B0\n0F1 0B1\n", &s), HB_EFORMAT,
            "stage 0 is on rank 0 and on rank 1");
    REFUSED(hb_schedule_parse("f", "0F0 0B0 2F0 2B0\n", &s), HB_EFORMAT, "stage 1 of 3 has no actions");
}

static void test_files(void **state)
{
    (void)state;
    struct hb_schedule s;
    static const char text[] = "0F0 0I0 0W0\n1F0 1B0\n";
    const char *path = scratch_write("two.schedule", text, sizeof text - 1);
    OK(hb_schedule_open(path, 2, 1, &s));
    assert_string_equal(s.name, path);
    hb_schedule_release(&s);
    REFUSED(hb_schedule_open(path, 4, 1, &s), HB_EARGUMENT,
            "is a schedule of 2 ranks and 1 microbatches; this run has 4");
    REFUSED(hb_schedule_open(path, 2, 3, &s), HB_EARGUMENT, "3 microbatches");
    REFUSED(hb_schedule_open("no-such", 2, 1, &s), HB_EARGUMENT,
            "there is no schedule 'no-such', and no such file");
    REFUSED(hb_schedule_open("interleaved:0", 2, 1, &s), HB_EARGUMENT, "there is no schedule");
    REFUSED(hb_schedule_open("interleaved:2x", 2, 1, &s), HB_EARGUMENT, "there is no schedule");
    REFUSED(hb_schedule_open("zb-v", 3000, 1, &s), HB_EARGUMENT, "1 to 4096 stages");
    REFUSED(hb_schedule_open("1f1b", 2, 0, &s), HB_EARGUMENT, "microbatches");
    path = scratch_write("nul.schedule", "0F0\0 0B0", 8);
    REFUSED(hb_schedule_open(path, 1, 1, &s), HB_EFORMAT, "is not a text file");
    assert_int_equal(hb_schedule_chunks("interleaved:5"), 5);
    assert_int_equal(hb_schedule_chunks("zb-v"), 2);
    assert_int_equal(hb_schedule_chunks("none"), 0);
}

/* --- the validator --- */

static void refuse(const char *text, const char *part, int line)
{
    struct hb_schedule s;
    scratch_ok(hb_schedule_parse("f", text, &s), text, line);
    scratch_refused(hb_schedule_check(&s), HB_EFORMAT, part, text, line);
    hb_schedule_release(&s);
}
#define REFUSE(text, part) refuse(text, part, __LINE__)

static void test_refusals(void **state)
{
    (void)state;
    REFUSE("0F0 0F1 0B0\n", "stage 0 has 2 F, 0 I, 0 W and 1 B actions; 2 microbatches need as many F");
    REFUSE("0F0 0F3 0B0 0B3\n", "4 microbatches");
    REFUSE("0F0 0I0\n", "stage 0 has 1 F, 1 I, 0 W");
    REFUSE("0F0 0F0 0B0 0B1\n", "rank 0 has 0F0 twice, at positions 1 and 2");
    REFUSE("0F0 0F1 0B0 0B0\n", "rank 0 has 0B0 twice");
    REFUSE("0F0 0F1 0I0 0B0 0W0\n", "microbatch 0 of stage 0 has both I and B");
    REFUSE("0F0 0F1 0F2 0I0 0W1 0I1 0W2 0B2\n", "microbatch 0 of stage 0 has I and no W");
    REFUSE("0F0 0F1 0F2 0F3 0I0 0W0 0I1 0W2 0B2 0B3\n", "microbatch 1 of stage 0 has I and no W");
    REFUSE("0B0 0F0\n", "rank 0, position 1: 0B0 comes before 0F0, which it needs");
    REFUSE("0F0 0W0 0I0\n", "rank 0, position 2: 0W0 comes before 0I0");
    REFUSE("0F0 0B0 1F0 1B0\n", "rank 0, position 2: 0B0 comes before 1B0");
    /* Each row is well ordered; together they wait for ever. */
    REFUSE("0F0 0B0 0F1 0B1\n1F1 1B1 1F0 1B0\n",
           "deadlock, these wait for each other: rank 0 at 0B0 (position 2) for 1B0 of rank 1, rank 1 at 1F1 "
           "(position 1) for 0F1 of rank 0");
}

static void test_bad_messages(void **state)
{
    (void)state;
    REFUSE("0F0 0SEND_F0 0RECV_B0 0B0\n1F0 1B0 1SEND_B0\n", "1RECV_F0 is missing");
    REFUSE("0F0 0B0 0SEND_F0\n", "0SEND_F0 leads nowhere");
    REFUSE("0F0 0SEND_F0 1F0 1RECV_F0 1B0 0B0\n", "leads nowhere");
    /* Received in another order than sent. */
    REFUSE("0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1\n"
           "1RECV_F1 1RECV_F0 1F0 1F1 1B0 1SEND_B0 1B1 1SEND_B1\n",
           "rank 1 receives 1RECV_F0 at position 2, after a message that rank 0 sends later than 0SEND_F0");
    REFUSE("0SEND_F0 0F0 0RECV_B0 0B0\n1RECV_F0 1F0 1B0 1SEND_B0\n", "0SEND_F0 comes before 0F0");
    REFUSE("0F0 0SEND_F0 0B0 0RECV_B0\n1RECV_F0 1F0 1B0 1SEND_B0\n", "0B0 comes before 0RECV_B0");
}

static void test_bad_gathers(void **state)
{
    (void)state;
    REFUSE("0GATHER 0F0 0RELEASE 0B0\n",
           "rank 0, position 4: 0B0, but the stage's parameters are not gathered");
    REFUSE("0GATHER 0GATHER 0F0 0B0\n", "0GATHER, but the stage's parameters are gathered already");
    REFUSE("0RELEASE 0F0 0B0\n", "0RELEASE, but the stage's parameters are not gathered");
}

static void test_all_sizes(void **state)
{
    (void)state;
    for (int n = 0; n < NAMES; n++)
        for (int p = 1; p <= 6; p++)
            for (int64_t m = 1; m <= 15; m++) {
                struct hb_schedule s;
                OK(hb_schedule_open(names[n], p, m, &s));
                OK(hb_schedule_add_messages(&s));
                OK(hb_schedule_check(&s));
                for (int most = 1; most <= 2; most++) {
                    struct hb_schedule gathered;
                    char *text;
                    OK(hb_schedule_text(&s, &text));
                    OK(hb_schedule_parse("copy", text, &gathered));
                    OK(hb_schedule_add_gathers(&gathered, most));
                    OK(hb_schedule_check(&gathered));
                    free(text);
                    hb_schedule_release(&gathered);
                }
                hb_schedule_release(&s);
            }
}

/* --- passes --- */

static void assert_text(const struct hb_schedule *s, const char *expected)
{
    char *text;
    OK(hb_schedule_text(s, &text));
    assert_string_equal(strchr(text, '\n') + 1, expected);
    free(text);
}

static void test_messages(void **state)
{
    (void)state;
    struct hb_schedule s;
    OK(hb_schedule_open("1f1b", 2, 2, &s));
    assert_text(&s, "0F0 0F1 0B0 0B1\n1F0 1B0 1F1 1B1\n");
    OK(hb_schedule_add_messages(&s));
    assert_text(&s, "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1\n"
                    "1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1\n");
    REFUSED(hb_schedule_add_messages(&s), HB_EARGUMENT, "has its messages already");
    hb_schedule_release(&s);
    /* The tip of the V hands over without a message; a later consumer does not overtake. */
    OK(hb_schedule_parse("v", "0F0 3F0 3B0 0B0\n1F0 2F0 2B0 1B0\n", &s));
    OK(hb_schedule_add_messages(&s));
    assert_text(&s, "0F0 0SEND_F0 3RECV_F0 3F0 3B0 3SEND_B0 0RECV_B0 0B0\n"
                    "1RECV_F0 1F0 2F0 2SEND_F0 2RECV_B0 2B0 1B0 1SEND_B0\n");
    hb_schedule_release(&s);
    OK(hb_schedule_parse("o", "0F0 0F1 0B1 0B0\n1F1 1F0 1B1 1B0\n", &s));
    OK(hb_schedule_add_messages(&s));
    assert_text(&s, "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B1 0B1 0RECV_B0 0B0\n"
                    "1RECV_F0 1RECV_F1 1F1 1F0 1B1 1SEND_B1 1B0 1SEND_B0\n");
    OK(hb_schedule_check(&s));
    hb_schedule_release(&s);
}

static void test_gathers(void **state)
{
    (void)state;
    struct hb_schedule s;
    OK(hb_schedule_parse("g", "0F0 1F0 1I0 0I0 1W0 0W0\n", &s));
    OK(hb_schedule_add_gathers(&s, 2));
    assert_text(&s, "0GATHER 0F0 1GATHER 1F0 1I0 1RELEASE 0I0 0RELEASE 1W0 0W0\n");
    hb_schedule_release(&s);
    OK(hb_schedule_parse("g", "0F0 1F0 1I0 0I0 1W0 0W0\n", &s));
    OK(hb_schedule_add_gathers(&s, 1));
    assert_text(&s, "0GATHER 0F0 0RELEASE 1GATHER 1F0 1I0 1RELEASE 0GATHER 0I0 0RELEASE 1W0 0W0\n");
    REFUSED(hb_schedule_add_gathers(&s, 1), HB_EARGUMENT, "has its gathers already");
    hb_schedule_release(&s);
}

static void test_counting(void **state)
{
    (void)state;
    struct hb_schedule s;
    int64_t order[8];
    OK(hb_schedule_open("1f1b", 4, 8, &s));
    for (int r = 0; r < 4; r++)
        assert_int_equal(hb_schedule_in_flight(&s, r), 4 - r);
    hb_schedule_release(&s);
    OK(hb_schedule_open("zb-v", 4, 8, &s));
    for (int r = 0; r < 4; r++)
        assert_int_equal(hb_schedule_in_flight(&s, r), 8);
    assert_int_equal(hb_schedule_stage_in_flight(&s, 0), 8);
    assert_int_equal(hb_schedule_stage_in_flight(&s, 7), 1);
    hb_schedule_weight_order(&s, 5, order);
    for (int i = 0; i < 8; i++)
        assert_int_equal(order[i], i);
    hb_schedule_release(&s);
}

/* Two ranks. gpipe: all forwards leave before anything comes back. 1f1b: the gradient of a microbatch proves
 * that its output has arrived, so one more may be on its way; and the next output proves it of a gradient. */
static void test_ahead(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t microbatches, most[2];
    } cases[] = {{"gpipe", 4, {4, 4}}, {"1f1b", 6, {2, 2}}, {"1f1b", 1, {1, 1}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hb_schedule s;
        int64_t most;
        OK(hb_schedule_open(cases[i].name, 2, cases[i].microbatches, &s));
        OK(hb_schedule_add_messages(&s));
        for (int r = 0; r < 2; r++) {
            OK(hb_schedule_ahead(&s, r, &most));
            assert_int_equal(most, cases[i].most[r]);
        }
        hb_schedule_release(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_forms),
        cmocka_unit_test(test_bad_text),    cmocka_unit_test(test_files),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_bad_gathers), cmocka_unit_test(test_all_sizes),
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_gathers),
        cmocka_unit_test(test_counting),    cmocka_unit_test(test_ahead),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
