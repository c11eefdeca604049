/* In fp32 a training step does not depend on the loss scale, to the bit, for any
 * power of two from 2^0 to 2^16: scaling by a power of two is exact as long as
 * nothing overflows and nothing underflows. Whether something did is asked of the
 * processor's flags on ref, which computes each number of the contract and no other,
 * in one thread; attention's forward pass is left out, as the scale does not reach it
 * and its first tile multiplies 0 by exp(-inf). Every magnitude grows with the scale or does not depend on
 * it: what happens neither at 2^0 nor at 2^16 happens at no scale between them. */
#include "model/runs.h"

#include <fenv.h>
#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"

enum { STEPS = 3, MICROBATCHES = 3 };

static hb_status attention_forward(struct hb_context *context, const struct hb_attention_forward_args *args)
{
    fexcept_t flags;
    fegetexceptflag(&flags, FE_ALL_EXCEPT);
    hb_status status = hb_backend_ref.attention_forward(context, args);
    fesetexceptflag(&flags, FE_ALL_EXCEPT);
    return status;
}

struct record {
    struct hb_step_report step[STEPS];
    bool rounded; /* something overflowed or underflowed */
};

static void train(int shape, const struct hb_backend *backend, float scale, struct record *record)
{
    struct run run;
    run_open(&run, &run_shapes[shape], backend, 1, RUN_ROWS);
    feclearexcept(FE_ALL_EXCEPT);
    for (int64_t s = 0; s < STEPS; s++) {
        struct run_data data;
        run_data_make(&data, 1000 * (uint64_t)(s + 1), run.model->config.vocab_size, RUN_ROWS);
        TH_OK(hb_step(&run.stepper, data.batch, MICROBATCHES, scale, true, &record->step[s]));
        run_data_release(&data);
    }
    record->rounded = fetestexcept(FE_OVERFLOW | FE_UNDERFLOW) != 0;
    run_close(&run);
}

static void assert_same(int shape, int exponent, const struct record *a, const struct record *b)
{
    for (int s = 0; s < STEPS; s++) {
        const struct hb_step_report *x = &a->step[s], *y = &b->step[s];
        if (memcmp(&x->verdict.grad_norm, &y->verdict.grad_norm, sizeof x->verdict.grad_norm) != 0 ||
            strcmp(x->digest, y->digest) != 0)
            fail_msg("%s at 2^%d, step %d: digest %s became %s", run_shapes[shape].name, exponent, s,
                     x->digest, y->digest);
    }
}

static void test_any_scale(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    struct hb_backend ref = hb_backend_ref;
    ref.attention_forward = attention_forward;
    TH_OK(hb_cpu_select(&cpu));
    for (int i = 0; i < run_shape_count; i++) {
        struct record plain, scaled;
        if (!hb_precision_is_fp32(&run_shapes[i].config.precision))
            continue; /* rounding to 16 bits has an underflow of its own */
        train(i, &ref, 1, &plain);
        train(i, &ref, 0x1p16f, &scaled);
        if (plain.rounded || scaled.rounded)
            fail_msg("%s: something overflowed or underflowed; the test's condition does not hold",
                     run_shapes[i].name);
        assert_same(i, 16, &plain, &scaled);
        for (int e = 0; e <= 16; e++) {
            train(i, cpu, (float)(1 << e), &scaled);
            assert_same(i, e, &plain, &scaled);
        }
    }
}

/* The condition is needed: at 2^-120 gradients are denormal numbers, and lose bits. */
static void test_underflow_is_seen(void **state)
{
    (void)state;
    struct record plain, scaled;
    train(0, &hb_backend_ref, 1, &plain);
    train(0, &hb_backend_ref, 0x1p-120f, &scaled);
    assert_true(scaled.rounded);
    assert_string_not_equal(plain.step[0].digest, scaled.step[0].digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_scale),
                                       cmocka_unit_test(test_underflow_is_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
