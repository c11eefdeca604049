/* A dry run's FLOPs are those of a real run. */
#include "core/scratch.h"

#include "model/tiny.h"
#include "ops/clock.h"
#include "parallel/dry_run.h"

enum { SEQUENCES = 2, LENGTH = 10, N = SEQUENCES * LENGTH };

static double flops_since(const struct hb_op_clock *clock, double before)
{
    double sum = 0;
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && clock->slots[i].name; i++)
        sum += clock->slots[i].flops;
    return sum - before;
}

/* The whole model, one microbatch, for real. */
static void measure(const struct hb_model_config *config, struct hb_recompute recompute,
                    struct hb_stage_use *use)
{
    struct tiny tiny;
    struct hb_tape tape;
    struct hb_gradients gradients;
    struct hb_carry carry;
    struct hb_op_clock clock = {0};
    int32_t ids[N], segments[SEQUENCES + 1] = {0, LENGTH, N};
    for (int i = 0; i < N; i++)
        ids[i] = (i * 7 + 3) % (int)config->vocab_size;
    tiny_open(&tiny, config, true, 1);
    struct hb_model *model = tiny.model;
    model->recompute = recompute;
    hb_tape_init(&tape, model->context);
    hb_gradients_init(&gradients, model->context);
    OK(hb_carry_init(&carry, model->context, config, N));
    hb_gradients_begin(&gradients, 1, model->params, model->param_count);
    hb_tape_begin(&tape, &gradients, 0);
    struct hb_batch batch = {N, ids, ids, segments, SEQUENCES};
    OK(hb_carry_load(&carry, &batch, model->cosine, model->sine));
    model->context->clock = &clock;
    OK(hb_model_forward(model, &tape, &carry));
    use->forward_flops = flops_since(&clock, 0);
    OK(hb_tape_backward_input(&tape, 0, tape.entry_count, false));
    use->input_flops = flops_since(&clock, use->forward_flops);
    OK(hb_tape_backward_weight(&tape, 0, tape.entry_count));
    use->weight_flops = flops_since(&clock, use->forward_flops + use->input_flops);
    model->context->clock = NULL;
    hb_tape_release(&tape);
    hb_gradients_begin(&gradients, 0, model->params, model->param_count);
    hb_gradients_release(&gradients);
    hb_carry_release(&carry);
    tiny_close(&tiny);
}

static void test_equal(void **state)
{
    (void)state;
    static const struct hb_recompute policies[] = {
        {HB_RECOMPUTE_NONE, 0}, {HB_RECOMPUTE_SELECTIVE, 0}, {HB_RECOMPUTE_EVERY, 2}, {HB_RECOMPUTE_FULL, 0}};
    struct hb_model_config configs[2] = {tiny_config(0), tiny_config(4)};
    for (int c = 0; c < 2; c++)
        for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
            struct hb_stage_use dry, real;
            struct hb_model_part part = {.expert_count = configs[c].num_experts};
            OK(hb_dry_run(&configs[c], policies[p], part, 0, configs[c].num_hidden_layers + 2, SEQUENCES,
                          LENGTH, &dry));
            measure(&configs[c], policies[p], &real);
            assert_true(dry.forward_flops == real.forward_flops && dry.forward_flops > 0);
            assert_true(dry.input_flops == real.input_flops && dry.input_flops > 0);
            assert_true(dry.weight_flops == real.weight_flops && dry.weight_flops > 0);
        }
}

/* Stages together cost what the whole does. */
static void test_stages(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(4);
    struct hb_model_part part = {.expert_count = config.num_experts};
    struct hb_stage_use whole, stage;
    double flops = 0;
    int64_t blocks = config.num_hidden_layers + 2;
    OK(hb_dry_run(&config, (struct hb_recompute){0}, part, 0, blocks, SEQUENCES, LENGTH, &whole));
    for (int64_t b = 0; b < blocks; b++) {
        OK(hb_dry_run(&config, (struct hb_recompute){0}, part, b, b + 1, SEQUENCES, LENGTH, &stage));
        flops += stage.forward_flops + stage.input_flops + stage.weight_flops;
    }
    assert_true(flops == whole.forward_flops + whole.input_flops + whole.weight_flops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal), cmocka_unit_test(test_stages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
