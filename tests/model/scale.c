/* In fp32 a training step does not depend on the loss scale, to the bit, for any
 * power of two from 2^0 to 2^16: scaling by a power of two is exact as long as
 * nothing overflows and nothing underflows. Whether something did is asked of the
 * processor's flags on ref, which computes each number of the contract and no other,
 * in one thread; attention's forward pass is left out, as the scale does not reach it
 * and its first tile multiplies 0 by exp(-inf). A run itself has counters of overflow and
 * underflow (docs/loss-scaling.md); where they are 0 the digests must be equal, and where
 * digests part they must not be. Every magnitude grows with the scale or does not depend on
 * it: what happens neither at 2^0 nor at 2^16 happens at no scale between them. */
#include "model/runs.h"

#include <fenv.h>
#include <math.h>
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

static void train(int shape, const struct hb_backend *backend, float scale, float gain,
                  struct record *record)
{
    struct run run;
    run_open(&run, &run_shapes[shape], backend, 1, RUN_ROWS);
    run.stepper.loss_gain = gain;
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

static bool same(const struct record *a, const struct record *b)
{
    bool equal = true;
    for (int s = 0; s < STEPS; s++)
        equal = equal && strcmp(a->step[s].digest, b->step[s].digest) == 0;
    return equal;
}

static int64_t overflow(const struct record *r)
{
    int64_t count = 0;
    for (int s = 0; s < STEPS; s++)
        count += r->step[s].verdict.overflow;
    return count;
}

static int64_t underflow(const struct record *r)
{
    int64_t count = 0;
    for (int s = 0; s < STEPS; s++)
        count += r->step[s].verdict.underflow;
    return count;
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
        train(i, &ref, 1, 1, &plain);
        train(i, &ref, 0x1p16f, 1, &scaled);
        assert_int_equal(overflow(&plain) + underflow(&plain), 0);
        if (plain.rounded || scaled.rounded)
            fail_msg("%s: something overflowed or underflowed; the test's condition does not hold",
                     run_shapes[i].name);
        assert_same(i, 16, &plain, &scaled);
        for (int e = 0; e <= 16; e++) {
            train(i, cpu, (float)(1 << e), 1, &scaled);
            assert_int_equal(overflow(&scaled), 0);
            assert_int_equal(underflow(&scaled), 0);
            assert_same(i, e, &plain, &scaled);
        }
    }
}

/* Far outside of 2^0 .. 2^16 runs part from each other, and where they do their counters must say so. */
static void test_counters(void **state)
{
    (void)state;
    static const char *const shapes[] = {"dense", "moe-layer-plain", "moe-window-memory"};
    static const int exponents[] = {-126, -112, -104, -103, -102, -101, -100, -99,
                                    -98,  -97,  -96,  -95,  -94,  -60,  -20,  60};
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    for (int k = 0; k < 3; k++) {
        struct record plain, scaled;
        int i = 0, parted = 0;
        while (strcmp(run_shapes[i].name, shapes[k]) != 0)
            i++;
        train(i, cpu, 1, 1, &plain);
        for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
            train(i, cpu, ldexpf(1, exponents[e]), 1, &scaled);
            parted += !same(&plain, &scaled);
            if (!same(&plain, &scaled) && underflow(&scaled) == 0)
                fail_msg("%s at 2^%d parts from 2^0, and no counter says so", shapes[k], exponents[e]);
            assert_int_equal(overflow(&scaled), 0);
        }
        assert_true(parted > 0 && parted < 16);
        /* Gradients 2^40 times as large. */
        train(i, cpu, 0x1p100f, 0x1p40f, &scaled);
        assert_true(overflow(&scaled) > 0 && scaled.step[0].verdict.skipped && !same(&plain, &scaled));
    }
}

/* The processor's flags see the same. */
static void test_underflow_is_seen(void **state)
{
    (void)state;
    struct record plain, scaled;
    train(0, &hb_backend_ref, 1, 1, &plain);
    train(0, &hb_backend_ref, 0x1p-120f, 1, &scaled);
    assert_true(scaled.rounded && underflow(&scaled) > 0);
    assert_string_not_equal(plain.step[0].digest, scaled.step[0].digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_scale),
                                       cmocka_unit_test(test_counters),
                                       cmocka_unit_test(test_underflow_is_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
