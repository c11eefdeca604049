/* What a step reports of the router's losses, where it can be worked out by hand:
 * with a router of zeros every expert has probability 1 / E. */
#include "model/runs.h"

#include <math.h>

#include "ref/backend.h"

enum { M = 3 };

/* Zero routers; biases, where there are any, all equal to `bias[layer]`. */
static void flatten(struct run *run, const float *bias)
{
    for (int64_t l = 0; l < run->model->config.num_hidden_layers; l++) {
        const struct hb_decoder *d = &run->model->decoders[l];
        if (!d->is_moe)
            continue;
        TH_OK(hb_zero(&run->context, d->moe.router->value));
        if (d->moe.router_bias) {
            float values[16];
            for (int e = 0; e < 16; e++)
                values[e] = bias[l];
            TH_OK(hb_copy_in(&run->context, d->moe.router_bias->value, values));
        }
    }
}

/* Microbatches of 37, 20 and 37 rows: means, not sums, must come out. */
static void step(struct run *run, struct hb_step_report *report)
{
    struct run_data long_rows, short_rows;
    run_data_make(&long_rows, 3, run->model->config.vocab_size, RUN_ROWS);
    run_data_make(&short_rows, 4, run->model->config.vocab_size, 20);
    struct hb_batch batches[M] = {long_rows.batch[0], short_rows.batch[0], long_rows.batch[1]};
    TH_OK(hb_step(&run->stepper, batches, M, 1, false, report));
    assert_int_equal(report->tokens, 2 * RUN_ROWS + 20);
    assert_int_equal(report->labels, run_labels(&long_rows, 2) + run_labels(&short_rows, 1));
    run_data_release(&long_rows);
    run_data_release(&short_rows);
}

/* fp32 gives log-sum-exp and probabilities within a few roundings. */
static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 64 * 0x1p-24 * expected))
        fail_msg("%.9g, must be %.9g", value, expected);
}

static void test_router_losses(void **state)
{
    (void)state;
    static const float bias[] = {0.25f, -0.5f, 0, 0};
    for (int shape = 0; shape < run_shape_count; shape++) {
        const struct hb_model_config *c = &run_shapes[shape].config;
        struct hb_step_report report;
        struct run run;
        double z = 0, layers = 0;
        run_open(&run, &run_shapes[shape], &hb_backend_ref, 1, RUN_ROWS);
        flatten(&run, bias);
        step(&run, &report);
        for (int64_t l = 0; l < c->num_hidden_layers; l++)
            if (hb_model_config_is_moe(c, l)) {
                double lse = log((double)c->num_experts) + (c->router_bias ? (double)bias[l] : 0);
                z += lse * lse;
                layers++;
            }
        assert_near(report.z, z);
        /* sum of f_i p_i = K / E (hf), 1 / E (layer): balanced or not, as p is the same for all. */
        double aux = c->balance == HB_BALANCE_HF ? (double)c->num_experts_per_tok
                     : c->balance == HB_BALANCE_LAYER ? layers
                                                      : 0;
        assert_near(report.aux, aux);
        run_close(&run);
    }
}

/* Releasing twice does nothing the second time. */
static void test_release(void **state)
{
    (void)state;
    struct run run;
    run_open(&run, &run_shapes[2], &hb_backend_ref, 1, RUN_ROWS);
    hb_stepper_release(&run.stepper);
    run_close(&run);
    hb_optimizer_release(&run.optimizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_router_losses), cmocka_unit_test(test_release)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
