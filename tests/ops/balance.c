/* balance: values by hand, bits, the router's gradient of the loss, the moves of the bias. */
#include <math.h>

#include "ops/harness.h"
#include "ref/backend.h"

struct loss_case {
    int64_t L, E, rows, denominator;
};

static void run_loss(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct loss_case *c = data;
    int64_t *counts = malloc((size_t)(c->L * c->E) * sizeof *counts);
    int32_t *numbers = th_integers(3, c->L * c->E, 1000);
    float *sums = th_numbers(TH_SAME_SIGN, 4, c->E);
    assert_non_null(counts);
    for (int64_t i = 0; i < c->L * c->E; i++)
        counts[i] = numbers[i];
    counts[0] = INT64_C(1) << 40; /* more than fp32 or i32 holds */
    struct hb_balance_loss_args args = {
        .counts = th_2d(context, HB_I64, c->L, c->E, counts),
        .prob_sum = th_1d(context, th_real(context), c->E, sums),
        .rows = c->rows,
        .denominator = c->denominator,
        .fraction = th_1d(context, th_real(context), c->E, NULL),
        .loss = th_1d(context, th_real(context), 1, NULL),
    };
    TH_OK(hb_balance_loss(context, &args));
    th_keep(out, context, "fraction", args.fraction);
    th_keep(out, context, "loss", args.loss);
    th_free(context, &args.counts);
    th_free(context, &args.prob_sum);
    th_free(context, &args.fraction);
    th_free(context, &args.loss);
    free(counts);
    free(numbers);
    free(sums);
}

static void test_loss_bits(void **state)
{
    (void)state;
    static const int64_t experts[] = {1, 2, 31, 32, 33, 64, 128, 257};
    for (size_t e = 0; e < sizeof experts / sizeof *experts; e++)
        for (int64_t L = 1; L < 4; L += 2)
            th_same_bits_everywhere("balance_loss", run_loss,
                                    &(struct loss_case){L, experts[e], 777 * L, 777 * L * 3});
}

static double loss_of(const struct hb_backend *backend, int64_t L, int64_t E, const int64_t *counts,
                      const float *prob_sum, int64_t rows, int64_t denominator, double *fraction)
{
    struct hb_context context;
    TH_OK(hb_context_open(backend, HB_CANONICAL, 1, &context));
    struct hb_balance_loss_args args = {
        .counts = th_2d(&context, HB_I64, L, E, counts),
        .prob_sum = th_1d(&context, th_real(&context), E, prob_sum),
        .rows = rows,
        .denominator = denominator,
        .fraction = th_1d(&context, th_real(&context), E, NULL),
        .loss = th_1d(&context, th_real(&context), 1, NULL),
    };
    TH_OK(hb_balance_loss(&context, &args));
    double *loss = th_doubles(&context, args.loss), *f = th_doubles(&context, args.fraction), result = *loss;
    memcpy(fraction, f, (size_t)E * sizeof *f);
    free(loss);
    free(f);
    th_free(&context, &args.counts);
    th_free(&context, &args.prob_sum);
    th_free(&context, &args.fraction);
    th_free(&context, &args.loss);
    hb_context_close(&context);
    return result;
}

/* Perfect balance costs K under `hf` and 1 under `layer`; all tokens on one expert cost E times that. */
static void test_loss_by_hand(void **state)
{
    (void)state;
    double f[4];
    /* 2 layers of 8 tokens, K = 2, E = 4: 4 choices and 2 of probability per expert and layer */
    int64_t even[8] = {4, 4, 4, 4, 4, 4, 4, 4};
    float sums[4] = {4, 4, 4, 4};
    assert_true(loss_of(&hb_backend_ref, 2, 4, even, sums, 16, 16, f) == 2);
    assert_true(f[0] == 0.5 && f[3] == 0.5);
    /* `layer`: the first layer only, denominator tokens K */
    float layer_sums[4] = {2, 2, 2, 2};
    assert_true(loss_of(&hb_backend_ref, 1, 4, even, layer_sums, 8, 16, f) == 1);
    assert_true(f[1] == 0.25);
    int64_t one[4] = {0, 0, 16, 0};
    float one_sum[4] = {0, 0, 8, 0};
    assert_true(loss_of(&hb_backend_ref, 1, 4, one, one_sum, 8, 16, f) == 4);
    assert_true(f[2] == 1 && f[0] == 0);
}

/* d loss / d logits as router_backward computes it, against differences of balance_loss itself. */
struct gradient {
    struct hb_context *context;
    struct hb_router_forward_args forward;
    struct hb_balance_loss_args balance;
    double *logits;
};

enum { N = 5, E = 6, K = 2 };

static double loss(void *data)
{
    struct gradient *g = data;
    th_put(g->context, g->forward.logits, g->logits);
    TH_OK(hb_zero(g->context, g->forward.counts));
    TH_OK(hb_router_forward(g->context, &g->forward));
    double *probs = th_doubles(g->context, g->forward.probs), sums[E] = {0};
    for (int i = 0; i < N * E; i++)
        sums[i % E] += probs[i];
    th_put(g->context, g->balance.prob_sum, sums);
    TH_OK(hb_balance_loss(g->context, &g->balance));
    double *value = th_doubles(g->context, g->balance.loss), result = 0.625 * *value;
    free(value);
    free(probs);
    return result;
}

static void test_loss_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    float logits[N * E], zeros[N * K] = {0};
    for (int t = 0; t < N; t++)
        for (int i = 0; i < E; i++)
            logits[t * E + i] = 0.25f * (float)((i + t) % E);
    struct gradient g = {.context = &context};
    g.forward = (struct hb_router_forward_args){
        .logits = th_2d(&context, HB_F64, N, E, logits),
        .renormalise = true,
        .probs = th_2d(&context, HB_F64, N, E, NULL),
        .lse = th_1d(&context, HB_F64, N, NULL),
        .index = th_2d(&context, HB_I32, N, K, NULL),
        .weight = th_2d(&context, HB_F64, N, K, NULL),
        .counts = th_1d(&context, HB_I64, E, NULL),
    };
    g.balance = (struct hb_balance_loss_args){
        .counts = hb_tensor_as_2d(g.forward.counts, 1, E),
        .prob_sum = th_1d(&context, HB_F64, E, NULL),
        .rows = N,
        .denominator = N * K,
        .fraction = th_1d(&context, HB_F64, E, NULL),
        .loss = th_1d(&context, HB_F64, 1, NULL),
    };
    g.logits = th_doubles(&context, g.forward.logits);
    loss(&g);
    struct hb_router_backward_args backward = {
        .probs = g.forward.probs,
        .lse = g.forward.lse,
        .index = g.forward.index,
        .weight = g.forward.weight,
        .dweight = th_2d(&context, HB_F64, N, K, zeros),
        .renormalise = true,
        .fraction = g.balance.fraction,
        .aux_factor = 0.625f,
        .aux_rows = N,
        .dlogits = th_2d(&context, HB_F64, N, E, NULL),
    };
    TH_OK(hb_router_backward(&context, &backward));
    double *dlogits = th_doubles(&context, backward.dlogits);
    th_check_gradient("balance_loss", loss, &g, g.logits, dlogits, N * E);
    free(dlogits);
    free(g.logits);
    th_free(&context, &g.forward.logits);
    th_free(&context, &g.forward.probs);
    th_free(&context, &g.forward.lse);
    th_free(&context, &g.forward.index);
    th_free(&context, &g.forward.weight);
    th_free(&context, &g.forward.counts);
    th_free(&context, &g.balance.prob_sum);
    th_free(&context, &g.balance.fraction);
    th_free(&context, &g.balance.loss);
    th_free(&context, &backward.dweight);
    th_free(&context, &backward.dlogits);
    hb_context_close(&context);
}

static void run_bias(struct hb_context *context, const void *data, struct th_outputs *out)
{
    int32_t found = *(const int32_t *)data;
    /* mean 10 exactly; then a mean that is no integer: 33 / 4 */
    static const int64_t counts[2][4] = {{9, 10, 11, 10}, {8, 9, 8, 8}};
    float bias[4] = {0.5f, 0.5f, 0.5f, -0.0f};
    for (int i = 0; i < 2; i++) {
        struct hb_balance_bias_args args = {
            .counts = th_1d(context, HB_I64, 4, counts[i]),
            .rate = 0.125f,
            .found = th_1d(context, HB_I32, 1, &found),
            .bias = th_1d(context, th_real(context), 4, bias),
        };
        TH_OK(hb_balance_bias(context, &args));
        th_keep(out, context, i ? "bias of a broken mean" : "bias", args.bias);
        th_free(context, &args.counts);
        th_free(context, &args.found);
        th_free(context, &args.bias);
    }
}

static void test_bias(void **state)
{
    (void)state;
    static const float moved[2][4] = {{0.625f, 0.5f, 0.375f, -0.0f}, {0.625f, 0.375f, 0.625f, 0.125f}};
    static const float start[4] = {0.5f, 0.5f, 0.5f, -0.0f};
    for (int32_t found = 0; found < 2; found++) {
        struct hb_context context;
        struct th_outputs out = {0};
        TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
        run_bias(&context, &found, &out);
        for (int i = 0; i < 2; i++)
            assert_memory_equal(out.item[i].data, found ? start : moved[i], sizeof start);
        th_outputs_release(&out);
        hb_context_close(&context);
        th_same_bits_everywhere("balance_bias", run_bias, &found);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_balance_loss_args good = {
        .counts = th_2d(&context, HB_I64, 2, 4, NULL),
        .prob_sum = th_1d(&context, HB_F32, 4, NULL),
        .rows = 1,
        .denominator = 1,
        .fraction = th_1d(&context, HB_F32, 4, NULL),
        .loss = th_1d(&context, HB_F32, 1, NULL),
    };
    struct hb_balance_loss_args args = good;
    args.rows = 0;
    assert_int_equal(hb_balance_loss(&context, &args), HB_EARGUMENT);
    args = good;
    args.denominator = -1;
    assert_int_equal(hb_balance_loss(&context, &args), HB_EARGUMENT);
    args = good;
    args.prob_sum.shape[0] = 3;
    assert_int_equal(hb_balance_loss(&context, &args), HB_ESHAPE);
    args = good;
    args.counts.dtype = HB_I32;
    assert_int_equal(hb_balance_loss(&context, &args), HB_ESHAPE);
    args = good;
    args.fraction.home = NULL;
    assert_int_equal(hb_balance_loss(&context, &args), HB_EARGUMENT);

    int32_t zero = 0;
    struct hb_balance_bias_args fine = {
        .counts = th_1d(&context, HB_I64, 4, NULL),
        .rate = 0.001f,
        .found = th_1d(&context, HB_I32, 1, &zero),
        .bias = th_1d(&context, HB_F32, 4, NULL),
    };
    struct hb_balance_bias_args bias = fine;
    bias.rate = NAN;
    assert_int_equal(hb_balance_bias(&context, &bias), HB_EARGUMENT);
    bias = fine;
    bias.bias.shape[0] = 5;
    assert_int_equal(hb_balance_bias(&context, &bias), HB_ESHAPE);
    bias = fine;
    bias.found.dtype = HB_F32;
    assert_int_equal(hb_balance_bias(&context, &bias), HB_ESHAPE);
    th_free(&context, &good.counts);
    th_free(&context, &good.prob_sum);
    th_free(&context, &good.fraction);
    th_free(&context, &good.loss);
    th_free(&context, &fine.counts);
    th_free(&context, &fine.found);
    th_free(&context, &fine.bias);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_bits),     cmocka_unit_test(test_loss_by_hand),
        cmocka_unit_test(test_loss_gradient), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
