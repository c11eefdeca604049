/* Whole models on ref64: the gradient of everything that a step minimises,
 * cross-entropy, balance loss and z-loss, by central differences, in sampled
 * elements of every parameter. */
#include "model/runs.h"

#include <math.h>

#include "ref/backend.h"

enum { M = 2, SAMPLES = 2, ROWS = 14 };

/* A microbatch of ROWS rows and a shorter one. */
static void make_data(struct run_data *data, int64_t vocabulary)
{
    run_data_make(data, 8, vocabulary, ROWS);
    struct hb_batch *b = &data->batch[1];
    b->segment_count -= 1;
    b->tokens = b->segments[b->segment_count];
    assert_in_range(b->tokens, 5, ROWS - 1);
}

struct experts {
    int64_t counts[M][3 * 7]; /* who was chosen how often: must not change with a small step */
};

/* The loss with the factors that the gradient was made with. */
static double total_loss(struct run *run, const struct run_data *data, struct experts *experts)
{
    struct hb_stepper *s = &run->stepper;
    struct hb_balance *b = &s->carry.balance;
    double total = 0, sum, aux[3], z[3];
    for (int64_t m = 0; m < M; m++) {
        hb_tape_begin(&s->tape, NULL, 0);
        TH_OK(hb_carry_load(&s->carry, &data->batch[m], run->model->cosine, run->model->sine));
        TH_OK(hb_model_forward(run->model, &s->tape, &s->carry));
        TH_OK(hb_copy_out(&run->context, &sum, s->carry.loss_sum));
        total += sum * (double)s->carry.loss_factor;
        if (!b->layers)
            continue;
        TH_OK(hb_copy_out(&run->context, aux, b->aux));
        TH_OK(hb_copy_out(&run->context, z, b->z_squares));
        TH_OK(hb_copy_out(&run->context, experts->counts[m], b->counts));
        int64_t aux_layers = b->kind == HB_BALANCE_HF ? 1 : b->kind == HB_BALANCE_LAYER ? b->layers : 0;
        for (int64_t l = 0; l < aux_layers; l++)
            total += aux[l] * (double)b->aux_factor;
        for (int64_t l = 0; l < b->layers; l++)
            total += z[l] / (double)data->batch[m].tokens * (double)b->z_factor;
    }
    return total;
}

static double shifted_loss(struct run *run, const struct run_data *data, struct hb_tensor element, double x,
                           const struct experts *usual)
{
    struct experts now = *usual;
    TH_OK(hb_copy_in(&run->context, element, &x));
    double loss = total_loss(run, data, &now);
    assert_memory_equal(&now, usual, sizeof now);
    return loss;
}

/* The element with the largest gradient, and others. */
static int64_t pick(const double *gradient, int64_t n, int sample, uint64_t seed)
{
    if (sample > 0) {
        int32_t *any = th_integers(seed + (uint64_t)sample, 1, (int32_t)n);
        int64_t i = any[0];
        free(any);
        return i;
    }
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(gradient[i]) > fabs(gradient[largest]))
            largest = i;
    return largest;
}

static void check_param(struct run *run, const struct run_data *data, const char *shape, int64_t number,
                        const struct experts *usual)
{
    struct hb_param *p = run->model->params[number];
    int64_t n = hb_tensor_count(&p->value);
    double *gradient = th_doubles(&run->context, p->use[0].root),
           *value = th_doubles(&run->context, p->value);
    double largest = fabs(gradient[pick(gradient, n, 0, 0)]);
    assert_true(largest > 1e-6); /* otherwise nothing is tested */
    for (int sample = 0; sample < SAMPLES; sample++) {
        int64_t i = pick(gradient, n, sample, 100 * (uint64_t)number);
        struct hb_tensor element =
            hb_tensor_1d(&run->context, (double *)p->value.data + i, HB_F64, 1); /* host memory */
        double h = 1e-5 * fmax(1, fabs(value[i]));
        double above = shifted_loss(run, data, element, value[i] + h, usual);
        double below = shifted_loss(run, data, element, value[i] - h, usual);
        TH_OK(hb_copy_in(&run->context, element, &value[i]));
        double numeric = (above - below) / (2 * h);
        if (!(fabs(numeric - gradient[i]) <= 1e-6 * largest + 1e-10))
            fail_msg("%s: %s%s, element %lld: gradient %.12g, central difference %.12g, largest %.3g", shape,
                     p->name, p->name_after, (long long)i, gradient[i], numeric, largest);
    }
    free(gradient);
    free(value);
}

static void check_shape(const struct run_shape *shape)
{
    struct run run;
    struct run_data data;
    struct experts usual = {0};
    run_open(&run, shape, &hb_backend_ref64, 1, ROWS);
    make_data(&data, shape->config.vocab_size);
    run_begin(&run, M, run_labels(&data, M));
    for (int64_t m = 0; m < M; m++)
        run_microbatch(&run, &data.batch[m], m, false);
    run_end(&run);
    total_loss(&run, &data, &usual);
    for (int64_t p = 0; p < run.model->param_count; p++)
        if (run.model->params[p]->trained)
            check_param(&run, &data, shape->name, p, &usual);
    run_data_release(&data);
    run_close(&run);
}

static void test_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < run_shape_count; i++)
        check_shape(&run_shapes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
