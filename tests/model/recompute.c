/* Making activations again changes no bit of a step, whatever the policy, the
 * model, the backend and the time of the weight entries; it saves memory; and
 * choices of the router are made once. */
#include "model/runs.h"

#include <stdio.h>

#include "cpu/select.h"
#include "ops/clock.h"
#include "ref/backend.h"

enum { STEPS = 3, POLICIES = 4 };

static const struct hb_recompute policies[POLICIES] = {
    {.kind = HB_RECOMPUTE_NONE},
    {.kind = HB_RECOMPUTE_SELECTIVE},
    {.kind = HB_RECOMPUTE_EVERY, .every = 2},
    {.kind = HB_RECOMPUTE_FULL},
};

struct record {
    struct hb_step_report step[STEPS];
    int64_t peak;
};

static void train(int shape, const struct hb_backend *backend, int threads, int policy, struct record *record)
{
    struct run run;
    run_open(&run, &run_shapes[shape], backend, threads, RUN_ROWS);
    run.model->recompute = policies[policy];
    for (int64_t s = 0; s < STEPS; s++)
        run_step(&run, s, 1 + (shape + 2 * s) % 5, &record->step[s]);
    record->peak = run.stepper.tape.pool.in_use_peak;
    assert_int_equal(run.stepper.tape.pool.in_use, 0);
    run_close(&run);
}

static void assert_same(const char *label, const struct record *a, const struct record *b)
{
    for (int s = 0; s < STEPS; s++) {
        const struct hb_step_report *x = &a->step[s], *y = &b->step[s];
        if (memcmp(&x->loss, &y->loss, sizeof x->loss) || memcmp(&x->aux, &y->aux, sizeof x->aux) ||
            memcmp(&x->z, &y->z, sizeof x->z) ||
            memcmp(&x->verdict.grad_norm, &y->verdict.grad_norm, sizeof x->verdict.grad_norm))
            fail_msg("%s, step %d: loss %a, norm %a became %a, %a", label, s, x->loss, x->verdict.grad_norm,
                     y->loss, y->verdict.grad_norm);
        if (strcmp(x->digest, y->digest) != 0)
            fail_msg("%s, step %d: digest %s became %s", label, s, x->digest, y->digest);
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    for (int i = 0; i < run_shape_count; i++) {
        struct record plain;
        train(i, cpu, 2, 0, &plain);
        assert_false(plain.step[STEPS - 1].verdict.skipped);
        for (int p = 1; p < POLICIES; p++) {
            char label[96];
            struct record got;
            snprintf(label, sizeof label, "%s, policy %d, cpu", run_shapes[i].name, p);
            train(i, cpu, 2, p, &got);
            assert_same(label, &plain, &got);
            /* A layer's own activations are all there when it runs backward: one layer alone saves none. */
            if (run_shapes[i].config.num_hidden_layers > 1 && !(got.peak < plain.peak))
                fail_msg("%s: %lld bytes of activations, without recompute %lld", label, (long long)got.peak,
                         (long long)plain.peak);
            snprintf(label, sizeof label, "%s, policy %d, ref", run_shapes[i].name, p);
            train(i, &hb_backend_ref, 1, p, &got);
            assert_same(label, &plain, &got);
        }
    }
}

/* A step of three microbatches, with the weight entries after all input entries or not. */
static void test_postponed_weights(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    for (int i = 0; i < run_shape_count; i++) {
        char expected[HB_DIGEST_TEXT + 1] = "";
        for (int p = 0; p < 2 * POLICIES; p++) {
            struct run run;
            struct run_data data;
            struct hb_verdict verdict;
            char digest[HB_DIGEST_TEXT + 1];
            run_open(&run, &run_shapes[i], cpu, 1, RUN_ROWS);
            run.model->recompute = policies[p / 2];
            run_data_make(&data, 5, run.model->config.vocab_size, RUN_ROWS);
            run_begin(&run, 3, run_labels(&data, 3));
            for (int64_t m = 0; m < 3; m++)
                run_microbatch(&run, &data.batch[m], m, p % 2);
            run_end(&run);
            TH_OK(hb_optimizer_step(&run.optimizer, 1, (struct hb_tensor){0}, true, &verdict));
            TH_OK(hb_optimizer_digest(&run.optimizer, false, digest));
            if (p == 0)
                memcpy(expected, digest, sizeof digest);
            else if (strcmp(digest, expected) != 0)
                fail_msg("%s, policy %d, weights %s: digest %s became %s", run_shapes[i].name, p / 2,
                         p % 2 ? "later" : "at once", expected, digest);
            run_data_release(&data);
            run_close(&run);
        }
    }
}

static int64_t calls_of(const struct hb_op_clock *clock, const char *op)
{
    for (int i = 0; i < HB_OP_CLOCK_SLOTS && clock->slots[i].name; i++)
        if (strcmp(clock->slots[i].name, op) == 0)
            return clock->slots[i].calls;
    return 0;
}

/* moe-hf has two expert layers: two choices a microbatch, even if all is run twice. */
static void test_routing_is_kept(void **state)
{
    (void)state;
    for (int p = 0; p < POLICIES; p++) {
        struct run run;
        struct hb_op_clock clock = {0};
        struct hb_step_report report;
        run_open(&run, &run_shapes[2], &hb_backend_ref, 1, RUN_ROWS);
        run.model->recompute = policies[p];
        run.context.clock = &clock;
        run_step(&run, 0, 3, &report);
        assert_int_equal(calls_of(&clock, "router_forward"), 2 * 3);
        assert_int_equal(calls_of(&clock, "dispatch_plan"), 2 * 3);
        assert_int_equal(calls_of(&clock, "attention_forward"), policies[p].kind == HB_RECOMPUTE_FULL ? 4 * 3
                                                                : policies[p].kind == HB_RECOMPUTE_EVERY
                                                                    ? 3 * 3
                                                                    : 2 * 3);
        run_close(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_postponed_weights),
        cmocka_unit_test(test_routing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
