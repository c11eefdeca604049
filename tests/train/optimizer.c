/* The optimizer: AdamW against a computation in double, what decays, clipping,
 * steps that are skipped, the selection bias, and the digest. */
#include "train/optimizer.h"

#include <math.h>

#include "core/scratch.h"
#include "model/tiny.h"
#include "train/step.h"

static const struct hb_optimizer_config usual = {
    .schedule = {.peak = 0.01, .warmup = 0.5, .final = 0.1, .updates = 10},
    .beta1 = 0.9,
    .beta2 = 0.95,
    .eps = 1e-8,
    .weight_decay = 0.1,
    .clip = 1,
};

struct bench {
    struct tiny tiny;
    struct hb_optimizer optimizer;
};

static void open_bench(struct bench *b, int64_t experts, const struct hb_optimizer_config *config, bool bias)
{
    struct hb_model_config model = tiny_config(experts);
    if (bias) {
        model.balance = HB_BALANCE_BIAS;
        model.balance_bias_rate = 0.125;
    }
    tiny_open(&b->tiny, &model, true, 5);
    OK(hb_optimizer_init(&b->optimizer, b->tiny.model, config));
}

static void close_bench(struct bench *b)
{
    hb_optimizer_release(&b->optimizer);
    assert_null(b->optimizer.context);
    hb_optimizer_release(&b->optimizer); /* a second time is none */
    tiny_close(&b->tiny);
}

/* Gradient of element i of parameter p in step s: any fixed numbers. */
static float gradient(int64_t s, int64_t p, int64_t i)
{
    uint32_t x = (uint32_t)(s * 7919 + p * 104729 + i) * 2654435761u;
    x ^= x >> 15;
    x *= 2246822519u;
    return ((float)(x >> 8) / 16777216.0f - 0.5f) * (p % 3 ? 1.0f : 0.01f);
}

static void fill_roots(struct bench *b, int64_t step, float factor)
{
    struct hb_model *model = b->tiny.model;
    for (int64_t p = 0; p < model->param_count; p++) {
        if (!model->params[p]->trained)
            continue;
        int64_t n = hb_tensor_count(&model->params[p]->value);
        float *values = malloc((size_t)n * sizeof *values);
        assert_non_null(values);
        for (int64_t i = 0; i < n; i++)
            values[i] = factor * gradient(step, p, i);
        OK(hb_copy_in(&b->tiny.context, model->params[p]->use[0].root, values));
        free(values);
    }
}

static const struct hb_tensor no_counts;

static struct hb_verdict step(struct bench *b, float scale)
{
    struct hb_verdict verdict;
    OK(hb_optimizer_step(&b->optimizer, scale, no_counts, true, &verdict));
    return verdict;
}

static double norm_of_step(const struct hb_model *model, int64_t s)
{
    double sum = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        for (int64_t i = 0; model->params[p]->trained && i < hb_tensor_count(&model->params[p]->value); i++)
            sum += (double)gradient(s, p, i) * (double)gradient(s, p, i);
    return sqrt(sum);
}

/* Loshchilov & Hutter's algorithm 2 for one element over some steps, in double. */
static double expected(const struct hb_optimizer_config *c, double param, bool decay, int64_t p, int64_t i,
                       const double *clipping, int steps)
{
    double m = 0, v = 0;
    for (int s = 1; s <= steps; s++) {
        double g = (double)gradient(s, p, i) * clipping[s], rate = hb_rate_at(&c->schedule, s);
        m = c->beta1 * m + (1 - c->beta1) * g;
        v = c->beta2 * v + (1 - c->beta2) * g * g;
        double m_hat = m / (1 - pow(c->beta1, s)), v_hat = v / (1 - pow(c->beta2, s));
        param -= rate * (m_hat / (sqrt(v_hat) + c->eps) + (decay ? c->weight_decay * param : 0));
    }
    return param;
}

static void check_adamw(const struct hb_optimizer_config *config, float scale)
{
    enum { STEPS = 6 };
    struct bench b;
    open_bench(&b, 3, config, false);
    struct hb_model *model = b.tiny.model;
    float **before = malloc((size_t)model->param_count * sizeof *before);
    double clipping[STEPS + 1], rates = 0;
    assert_non_null(before);
    for (int64_t p = 0; p < model->param_count; p++)
        before[p] = tiny_values(model->params[p]);
    for (int s = 1; s <= STEPS; s++) {
        double norm = norm_of_step(model, s);
        clipping[s] = config->clip > 0 ? fmin(1, config->clip / (norm + 1e-6)) : 1;
        fill_roots(&b, s, scale);
        struct hb_verdict verdict = step(&b, scale);
        assert_false(verdict.skipped);
        assert_true(fabs(verdict.grad_norm - norm) <= 1e-9 * norm);
        assert_true(verdict.learning_rate == hb_rate_at(&config->schedule, s));
        assert_int_equal(b.optimizer.applied, s);
        rates += verdict.learning_rate;
    }
    for (int64_t p = 0; p < model->param_count; p++) {
        float *after = tiny_values(model->params[p]);
        bool decay = config->decay == HB_DECAY_ALL || model->params[p]->value.rank > 1;
        for (int64_t i = 0; i < hb_tensor_count(&model->params[p]->value); i++) {
            double want = expected(config, (double)before[p][i], decay, p, i, clipping, STEPS);
            /* A step moves by about the learning rate; of that, and of the weight, some roundings. */
            if (!(fabs((double)after[i] - want) <= 2e-6 * rates + 3e-7 * fabs(want)))
                fail_msg("%s element %lld: %.9g, must be %.9g (it was %.9g)", model->params[p]->name,
                         (long long)i, (double)after[i], want, (double)before[p][i]);
        }
        free(after);
        free(before[p]);
    }
    free(before);
    close_bench(&b);
}

static void test_adamw(void **state)
{
    (void)state;
    struct hb_optimizer_config all = usual, unclipped = usual, mild = usual;
    all.decay = HB_DECAY_ALL;
    unclipped.clip = 0;
    mild.clip = 1e9;
    check_adamw(&usual, 1);
    check_adamw(&all, 1);
    check_adamw(&unclipped, 1);
    check_adamw(&mild, 1);
    check_adamw(&usual, 1024);
}

/* Without a gradient only decay moves a weight: (1 - lr decay) of it stays. */
static void test_what_decays(void **state)
{
    (void)state;
    for (int kind = HB_DECAY_MATRICES; kind <= HB_DECAY_ALL; kind++) {
        struct hb_optimizer_config config = usual;
        struct bench b;
        config.decay = (enum hb_decay)kind;
        open_bench(&b, 3, &config, true);
        struct hb_model *model = b.tiny.model;
        float keep = (float)(1 - hb_rate_at(&config.schedule, 1) * config.weight_decay);
        fill_roots(&b, 1, 0);
        for (int64_t p = 0; p < model->param_count; p++) {
            const struct hb_param *param = model->params[p];
            int64_t n = hb_tensor_count(&param->value);
            float *ones = malloc((size_t)n * sizeof *ones);
            assert_non_null(ones);
            for (int64_t i = 0; i < n; i++)
                ones[i] = 1;
            OK(hb_copy_in(&b.tiny.context, param->value, ones));
            free(ones);
        }
        step(&b, 1);
        for (int64_t p = 0; p < model->param_count; p++) {
            const struct hb_param *param = model->params[p];
            float *after = tiny_values(param);
            bool decays = param->trained && (kind == HB_DECAY_ALL || param->value.rank > 1);
            for (int64_t i = 0; i < hb_tensor_count(&param->value); i++)
                assert_true(after[i] == (decays ? keep : 1.0f));
            free(after);
        }
        close_bench(&b);
    }
}

/* Parameters and moments, one after the other. */
static char *everything(struct bench *b, size_t *size)
{
    struct hb_model *model = b->tiny.model;
    *size = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        *size += 3 * hb_tensor_bytes(&model->params[p]->value);
    char *all = calloc(1, *size);
    assert_non_null(all);
    for (size_t at = 0, p = 0; p < (size_t)model->param_count; p++) {
        const struct hb_param *param = model->params[p];
        struct hb_tensor parts[] = {param->value, param->m, param->v};
        for (int i = 0; i < (param->trained ? 3 : 1); i++) {
            OK(hb_copy_out(&b->tiny.context, all + at, parts[i]));
            at += hb_tensor_bytes(&param->value);
        }
    }
    return all;
}

/* Tokens that each of three experts of a layer has seen. */
static struct hb_tensor make_counts(struct bench *b, const int64_t *values)
{
    void *memory;
    OK(hb_alloc(&b->tiny.context, HB_MEMORY_ACTIVATIONS, 3 * sizeof *values, &memory));
    struct hb_tensor counts = hb_tensor_2d(&b->tiny.context, memory, HB_I64, 1, 3);
    OK(hb_copy_in(&b->tiny.context, counts, values));
    return counts;
}

static void test_skip(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    struct bench b;
    int64_t values[] = {9, 0, 0};
    open_bench(&b, 3, &usual, true);
    struct hb_tensor counts = make_counts(&b, values);
    fill_roots(&b, 1, 1);
    step(&b, 1);
    for (int64_t p = 0; p < b.tiny.model->param_count; p++) {
        struct hb_param *param = b.tiny.model->params[p];
        struct hb_verdict verdict;
        size_t size;
        if (!param->trained)
            continue;
        fill_roots(&b, 2, 1);
        struct hb_tensor root = param->use[0].root;
        int64_t last = hb_tensor_count(&root) - 1;
        OK(hb_copy_in(&b.tiny.context, hb_tensor_1d(root.home, (float *)root.data + last, HB_F32, 1),
                      &bad[p % 3]));
        char *before = everything(&b, &size);
        OK(hb_optimizer_step(&b.optimizer, 1, counts, true, &verdict));
        char *after = everything(&b, &size);
        assert_true(verdict.skipped);
        assert_memory_equal(before, after, size);
        assert_int_equal(b.optimizer.applied, 1);
        free(before);
        free(after);
    }
    /* It goes on with the learning rate that was due. */
    fill_roots(&b, 2, 1);
    struct hb_verdict verdict = step(&b, 1);
    assert_false(verdict.skipped);
    assert_true(verdict.learning_rate == hb_rate_at(&usual.schedule, 2));
    assert_int_equal(b.optimizer.applied, 2);
    hb_free(&b.tiny.context, counts.data);
    close_bench(&b);
}

/* A whole step whose loss is not a number: reported, and nothing has changed. */
static void test_skipped_step(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 3, 4, 5}, labels[] = {2, 3, 4, 5, 6}, segments[] = {0, 5};
    struct hb_batch batch = {5, ids, labels, segments, 1};
    struct hb_stepper stepper;
    struct hb_step_report report;
    char fresh[HB_DIGEST_TEXT + 1];
    struct bench b;
    open_bench(&b, 3, &usual, true);
    OK(hb_stepper_init(&stepper, b.tiny.model, &b.optimizer, 1, 5));
    OK(hb_step(&stepper, &batch, 1, 1, false, &report)); /* no hashes are made here */
    assert_false(report.verdict.skipped);
    assert_string_equal(report.digest, "");
    float *norm = tiny_values(b.tiny.model->final_norm), infinite = INFINITY;
    struct hb_tensor first = hb_tensor_rows(b.tiny.model->final_norm->value, 0, 1);
    OK(hb_copy_in(&b.tiny.context, first, &infinite));
    OK(hb_step(&stepper, &batch, 1, 1, true, &report));
    assert_true(report.verdict.skipped);
    assert_true(isnan(report.loss));
    OK(hb_optimizer_digest(&b.optimizer, true, fresh));
    assert_string_equal(report.digest, fresh);
    OK(hb_copy_in(&b.tiny.context, first, norm));
    OK(hb_step(&stepper, &batch, 1, 1, true, &report));
    assert_false(report.verdict.skipped);
    assert_int_equal(b.optimizer.applied, 2);
    int32_t nothing[] = {-100, -100, -100, -1, -1};
    batch.labels = nothing;
    REFUSED(hb_step(&stepper, &batch, 1, 1, true, &report), HB_EARGUMENT, "no label");
    REFUSED(hb_step(&stepper, &batch, 2, 1, true, &report), HB_EARGUMENT, "2 microbatches");
    free(norm);
    hb_stepper_release(&stepper);
    close_bench(&b);
}

static void test_selection_bias(void **state)
{
    (void)state;
    /* Mean 4: one above, one below, one just at it; twice, then the mean is no integer. */
    static int64_t counts[3][3] = {{7, 1, 4}, {7, 1, 4}, {2, 1, 1}};
    static const float expected_bias[3][3] = {{-0.125, 0.125, 0}, {-0.25, 0.25, 0}, {-0.375, 0.375, 0.125}};
    struct bench b;
    open_bench(&b, 3, &usual, true);
    const struct hb_decoder *layer = &b.tiny.model->decoders[1];
    assert_true(layer->is_moe && layer->moe.selection_bias);
    for (int s = 0; s < 3; s++) {
        struct hb_verdict verdict;
        fill_roots(&b, s, 1);
        struct hb_tensor seen = make_counts(&b, counts[s]);
        OK(hb_optimizer_step(&b.optimizer, 1, seen, true, &verdict));
        hb_free(&b.tiny.context, seen.data);
        float *bias = tiny_values(layer->moe.selection_bias);
        assert_memory_equal(bias, expected_bias[s], sizeof expected_bias[s]);
        free(bias);
    }
    close_bench(&b);
}

static void test_digest(void **state)
{
    (void)state;
    struct bench b;
    char made[HB_DIGEST_TEXT + 1], fresh[HB_DIGEST_TEXT + 1], first[HB_DIGEST_TEXT + 1];
    open_bench(&b, 3, &usual, true);
    OK(hb_optimizer_digest(&b.optimizer, true, first));
    for (int s = 1; s <= 2; s++) {
        fill_roots(&b, s, 1);
        step(&b, 1);
        OK(hb_optimizer_digest(&b.optimizer, false, made)); /* made while the update ran */
        OK(hb_optimizer_digest(&b.optimizer, true, fresh));
        assert_string_equal(made, fresh);
        assert_string_not_equal(made, first);
    }
    /* Any bit of any parameter changes it, of the selection bias too. */
    for (int64_t p = 0; p < b.tiny.model->param_count; p++) {
        const struct hb_param *param = b.tiny.model->params[p];
        int64_t last = hb_tensor_count(&param->value) - 1;
        struct hb_tensor element =
            hb_tensor_1d(&b.tiny.context, (float *)param->value.data + last, HB_F32, 1);
        float kept, other;
        OK(hb_copy_out(&b.tiny.context, &kept, element));
        other = nextafterf(kept, 10);
        OK(hb_copy_in(&b.tiny.context, element, &other));
        OK(hb_optimizer_digest(&b.optimizer, true, fresh));
        assert_string_not_equal(made, fresh);
        OK(hb_copy_in(&b.tiny.context, element, &kept));
    }
    OK(hb_optimizer_digest(&b.optimizer, true, fresh));
    assert_string_equal(made, fresh);
    close_bench(&b);
}

/* The norm and the digest take tensors in the order of their names, experts under their own. */
static void test_names(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 11, &usual, false);
    const struct hb_optimizer *o = &b.optimizer;
    bool two = false;
    for (int64_t i = 1; i < o->census.logical_count; i++) {
        assert_true(strcmp(o->census.logical[i - 1].name, o->census.logical[i].name) < 0);
        two = two || (strstr(o->census.logical[i - 1].name, "experts.10.") &&
                      strstr(o->census.logical[i].name, "experts.10."));
    }
    assert_true(two);
    int64_t experts = 0;
    for (int64_t i = 0; i < o->census.logical_count; i++)
        experts += strstr(o->census.logical[i].name, "experts.") != NULL;
    assert_int_equal(experts, 3 * 11);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),          cmocka_unit_test(test_what_decays),
        cmocka_unit_test(test_skip),           cmocka_unit_test(test_skipped_step),
        cmocka_unit_test(test_selection_bias), cmocka_unit_test(test_digest),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
