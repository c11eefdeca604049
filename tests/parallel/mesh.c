/* The mesh: layouts from text, what fits, who has which microbatch. */
#include "parallel/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void text(void **state)
{
    (void)state;
    struct hb_mesh_shape s;
    char out[80];
    assert_int_equal(hb_mesh_parse("dp=2,ep=3,pp=4", &s), HB_OK);
    assert_string_equal(hb_mesh_text(s, out, sizeof out), "dp=2, ep=3, pp=4");
    assert_int_equal(hb_mesh_parse("pp=2", &s), HB_OK);
    assert_string_equal(hb_mesh_text(s, out, sizeof out), "dp=1, ep=1, pp=2");
    static const char *const wrong[] = {"dp",   "dp=",   "dp=0",      "dp=2;ep=2",
                                        "tp=2", "dp=-1", "dp=2 ep=2", "dp=2,dp=3"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(hb_mesh_parse(wrong[i], &s), HB_EARGUMENT);
        assert_non_null(strstr(hb_error(), wrong[i]));
    }
}

static void what_fits(void **state)
{
    (void)state;
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){2, 2, 2}, 8, 5, 4), HB_OK);
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){1, 5, 1}, 5, 5, 4), HB_OK);
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){2, 2, 1}, 8, 5, 4), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "4 ranks, but 8"));
    assert_non_null(strstr(hb_error(), "dp=4, ep=2, pp=1"));
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){1, 6, 1}, 6, 5, 4), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "5 experts"));
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){1, 2, 1}, 2, 0, 4), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "none"));
    assert_int_equal(hb_mesh_check((struct hb_mesh_shape){1, 1, 5}, 5, 0, 4), HB_EARGUMENT);
    assert_non_null(strstr(hb_error(), "blocks (4)"));
    assert_non_null(strstr(hb_error(), "dp=5, ep=1, pp=1"));
}

/* Every microbatch belongs to one rank and round; what groups hold is their union. */
static void microbatches(void **state)
{
    (void)state;
    for (int64_t D = 1; D <= 6; D++)
        for (int64_t M = 1; M <= 11; M++)
            for (int scattered = 0; scattered < 2; scattered++) {
                struct hb_mesh mesh = {.data_ranks = D};
                int seen[11] = {0};
                for (int64_t r = 0; r < hb_mesh_rounds(&mesh, M); r++) {
                    int64_t in_round = 0;
                    for (int64_t d = 0; d < D; d++) {
                        int64_t m = hb_mesh_microbatch(&mesh, M, scattered, r, d);
                        struct hb_range held = hb_mesh_held(&mesh, M, scattered, r, d, 1);
                        if (m >= 0) {
                            seen[m]++;
                            in_round++;
                            assert_true(held.begin <= m && m < held.end);
                        }
                        struct hb_range all = hb_mesh_held(&mesh, M, scattered, r, 0, d + 1);
                        assert_int_equal(all.end, held.end);
                    }
                    assert_true(in_round > 0);
                }
                for (int64_t m = 0; m < M; m++)
                    assert_int_equal(seen[m], 1);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(text), cmocka_unit_test(what_fits),
                                       cmocka_unit_test(microbatches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
