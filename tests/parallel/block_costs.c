/* Costs of blocks: what is written is read, what is wrong is named, stages are cut by them, and a clock
 * gives some. */
#include "core/scratch.h"

#include "model/tiny.h"
#include "parallel/block_costs.h"

static void test_files(void **state)
{
    (void)state;
    static const char text[] = "# F I W\n1 2 3\n\n0.5 0 0.25 # a layer\n4 5 6\n";
    struct hb_block_costs c;
    const char *path = scratch_write("costs.txt", text, sizeof text - 1);
    for (int round = 0; round < 2; round++) {
        OK(hb_block_costs_load(path, 3, &c));
        struct hb_stage_cost sum = hb_block_costs_sum(&c, 0, 2);
        assert_true(sum.forward == 1.5 && sum.input == 2 && sum.weight == 3.25);
        OK(hb_block_costs_write(&c, path));
        hb_block_costs_release(&c);
    }
    REFUSED(hb_block_costs_load(path, 4, &c), HB_EFORMAT, "costs of 3 blocks, the model has 4");
    REFUSED(hb_block_costs_load(path, 2, &c), HB_EFORMAT, "costs of 3 blocks, the model has 2");
    static const char *const bad[] = {"1 2\n", "1 2 3 4\n", "1 x 3\n", "1 -2 3\n", "1 nan 3\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        REFUSED(hb_block_costs_load(scratch_write("bad.txt", bad[i], strlen(bad[i])), 1, &c), HB_EFORMAT,
                "bad.txt:1: a block has three costs");
    REFUSED(hb_block_costs_load(scratch_write("bad.txt", "0 0 0", 5), 1, &c), HB_EFORMAT, "all costs are 0");
}

static void test_cut(void **state)
{
    (void)state;
    struct hb_stage_cost cost[5] = {{5, 0, 0, 0}, {1, 1, 1, 0}, {1, 0, 0, 0}, {1, 0, 0, 0}, {0, 4.5, 0, 0}};
    struct hb_block_costs c = {5, cost};
    int64_t begin[4];
    OK(hb_block_costs_cut(&c, 3, begin));
    assert_true(begin[0] == 0 && begin[1] == 1 && begin[2] == 4 && begin[3] == 5);
}

/* Seconds of every block; equal layers are measured once. */
static void test_measure(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(4);
    const struct hb_backend *ref;
    struct hb_context context;
    struct hb_block_costs c;
    config.num_hidden_layers = 3;
    OK(hb_backend_find("ref", &ref));
    OK(hb_context_open(ref, HB_CANONICAL, 1, &context));
    OK(hb_block_costs_measure(&context, &config, (struct hb_recompute){0}, 2, 10, &c));
    assert_int_equal(c.blocks, 5);
    for (int64_t b = 0; b < 5; b++)
        assert_true(c.cost[b].forward > 0 && c.cost[b].input >= 0 && c.cost[b].weight > 0 &&
                    c.cost[b].forward < 10);
    for (int64_t b = 2; b < 4; b++)
        if (hb_model_config_is_moe(&config, b - 1) == hb_model_config_is_moe(&config, 0))
            assert_true(c.cost[b].forward == c.cost[1].forward && c.cost[b].weight == c.cost[1].weight);
    hb_block_costs_release(&c);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_measure),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
