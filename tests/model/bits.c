/* A training step has one result, to the bit, whoever computes it and in
 * whatever order its microbatches are run. */
#include "model/runs.h"

#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"
#include "strict/strict.h"

enum { STEPS = 3 };

/* Everything that a step reports. */
struct record {
    struct hb_step_report step[STEPS];
};

/* Steps of 1 to 5 microbatches; all numbers occur among the shapes. */
static void train(int shape, const struct hb_backend *backend, int threads, struct record *record)
{
    struct run run;
    run_open(&run, &run_shapes[shape], backend, threads, RUN_ROWS);
    for (int64_t s = 0; s < STEPS; s++)
        run_step(&run, s, 1 + (shape + 2 * s) % 5, &record->step[s]);
    run_close(&run);
}

static void assert_same_numbers(const char *label, const struct hb_step_report *a,
                                const struct hb_step_report *b)
{
    double x[] = {a->loss, a->aux, a->z, a->verdict.grad_norm},
           y[] = {b->loss, b->aux, b->z, b->verdict.grad_norm};
    if (memcmp(x, y, sizeof x) != 0)
        fail_msg("%s: loss %a, aux %a, z %a, norm %a became %a, %a, %a, %a", label, x[0], x[1], x[2], x[3],
                 y[0], y[1], y[2], y[3]);
}

static void assert_same(const char *label, const struct record *a, const struct record *b)
{
    for (int s = 0; s < STEPS; s++) {
        char text[160];
        snprintf(text, sizeof text, "%s, step %d", label, s);
        assert_same_numbers(text, &a->step[s], &b->step[s]);
        if (strcmp(a->step[s].digest, b->step[s].digest) != 0)
            fail_msg("%s: digest %s became %s", text, a->step[s].digest, b->step[s].digest);
    }
}

static void test_everywhere(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5};
    const struct hb_cpu_level *levels;
    int count = hb_cpu_levels(&levels);
    for (int i = 0; i < run_shape_count; i++) {
        struct record ref, cpu;
        train(i, &hb_backend_ref, 1, &ref);
        assert_false(ref.step[0].verdict.skipped);
        assert_string_not_equal(ref.step[0].digest, ref.step[1].digest);
        for (int l = 0; l < count; l++)
            for (int t = 0; levels[l].usable && t < 4; t++) {
                /* The best level with all, the others with all in turn. */
                if (l < count - 1 && (t + l + i) % 2)
                    continue;
                char label[120];
                snprintf(label, sizeof label, "%s on cpu %s with %d threads", run_shapes[i].name,
                         levels[l].name, threads[t]);
                train(i, levels[l].backend, threads[t], &cpu);
                assert_same(label, &ref, &cpu);
            }
        for (int t = 1; t <= 2; t++) {
            const struct hb_backend *strict;
            char label[120];
            TH_OK(hb_strict_select(&strict));
            snprintf(label, sizeof label, "%s on strict with %d threads", run_shapes[i].name, t);
            train(i, strict, t, &cpu);
            assert_same(label, &ref, &cpu);
        }
    }
}

/* --- gradients of one step, whatever the way to them --- */

/* The roots of all trained parameters, one after the other. */
static void take_roots(struct run *run, struct th_outputs *out)
{
    struct hb_model *model = run->model;
    int64_t bytes = 0, at = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        if (model->params[p]->trained)
            bytes += (int64_t)hb_tensor_bytes(&model->params[p]->use[0].root);
    char *all = malloc((size_t)bytes);
    assert_non_null(all);
    for (int64_t p = 0; p < model->param_count; p++)
        if (model->params[p]->trained) {
            TH_OK(hb_copy_out(&run->context, all + at, model->params[p]->use[0].root));
            at += (int64_t)hb_tensor_bytes(&model->params[p]->use[0].root);
        }
    out->item[0] = (struct th_output){.name = "roots", .dtype = HB_F32, .n = bytes / 4, .data = all};
    out->count = 1;
}

static const struct hb_backend *cpu(void)
{
    const struct hb_backend *backend;
    TH_OK(hb_cpu_select(&backend));
    return backend;
}

/* Runs the microbatches of a step in the given order. */
static void roots_in_order(struct run *run, const struct run_data *data, int64_t M, const int *order,
                           bool postponed, struct th_outputs *out)
{
    run_begin(run, M, run_labels(data, M));
    for (int64_t i = 0; i < M; i++)
        run_microbatch(run, &data->batch[order[i]], order[i], postponed);
    run_end(run);
    take_roots(run, out);
}

static void test_any_order(void **state)
{
    (void)state;
    static const int orders[][5] = {
        {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}, {1, 3, 0, 2, 4}, {4, 0, 3, 1, 2}, {3, 4, 1, 0, 2}};
    static const int straight[] = {0, 1, 2, 3, 4};
    for (int i = 0; i < run_shape_count; i++) {
        struct run run;
        struct run_data data;
        struct th_outputs expected, got;
        run_open(&run, &run_shapes[i], cpu(), 1, RUN_ROWS);
        run_data_make(&data, 77, run.model->config.vocab_size, RUN_ROWS);
        roots_in_order(&run, &data, 5, straight, false, &expected);
        for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
            roots_in_order(&run, &data, 5, orders[o], o % 2, &got);
            th_assert_same_bits(run_shapes[i].name, &expected, &got);
            th_outputs_release(&got);
        }
        th_outputs_release(&expected);
        run_data_release(&data);
        run_close(&run);
    }
}

static void test_postponed_weights(void **state)
{
    (void)state;
    static const int straight[] = {0, 1, 2};
    for (int i = 0; i < run_shape_count; i++) {
        struct run run;
        struct run_data data;
        struct th_outputs expected, got;
        run_open(&run, &run_shapes[i], cpu(), 2, RUN_ROWS);
        run_data_make(&data, 5, run.model->config.vocab_size, RUN_ROWS);
        roots_in_order(&run, &data, 3, straight, false, &expected);
        roots_in_order(&run, &data, 3, straight, true, &got);
        th_assert_same_bits(run_shapes[i].name, &expected, &got);
        th_outputs_release(&expected);
        th_outputs_release(&got);
        run_data_release(&data);
        run_close(&run);
    }
}

/* The pending node [m, m + 1) of a use, as bytes; absent parts as zeros. */
static float *take_leaf(struct run *run, const struct hb_param_use *use, int64_t m)
{
    struct hb_tensor sum = use->root, present = use->present;
    int found = -1;
    for (int i = 0; i < use->node_count; i++)
        if (use->nodes[i].begin == m && use->nodes[i].end == m + 1)
            found = i;
    assert_true(found >= 0);
    if (use->nodes[found].buffer)
        sum.data = use->nodes[found].buffer->data;
    if (use->nodes[found].present_buffer)
        present.data = use->nodes[found].present_buffer->data;
    int64_t n = hb_tensor_count(&sum), parts = present.data ? present.shape[0] : 1;
    float *values = malloc((size_t)n * sizeof *values);
    int32_t *flags = malloc((size_t)parts * sizeof *flags);
    assert_true(values && flags);
    TH_OK(hb_copy_out(&run->context, values, sum));
    flags[0] = 1;
    if (present.data)
        TH_OK(hb_copy_out(&run->context, flags, present));
    for (int64_t i = 0; i < n; i++)
        if (!flags[i / (n / parts)])
            values[i] = 0;
    free(flags);
    return values;
}

/* Leaves 0, 2, 4 of a step of 6 stay alone; each must be what microbatch 0 of 1 leaves. */
static void test_alone_or_among_others(void **state)
{
    (void)state;
    for (int i = 0; i < run_shape_count; i++) {
        struct run many, one;
        struct run_data data;
        run_open(&many, &run_shapes[i], cpu(), 2, RUN_ROWS);
        run_data_make(&data, 31, many.model->config.vocab_size, RUN_ROWS);
        run_begin(&many, 6, 200);
        for (int64_t m = 0; m < 6; m += 2)
            run_microbatch(&many, &data.batch[m], m, false);
        for (int64_t m = 0; m < 6; m += 2) {
            run_open(&one, &run_shapes[i], cpu(), 1, RUN_ROWS);
            run_begin(&one, 6, 200); /* the step's factors */
            one.stepper.gradients.microbatches = 1;
            run_microbatch(&one, &data.batch[m], 0, false);
            for (int64_t p = 0; p < one.model->param_count; p++)
                for (int u = 0; one.model->params[p]->trained && u < one.model->params[p]->use_count; u++) {
                    float *alone = take_leaf(&one, &one.model->params[p]->use[u], 0);
                    float *among = take_leaf(&many, &many.model->params[p]->use[u], m);
                    if (memcmp(alone, among, hb_tensor_bytes(&one.model->params[p]->value)) != 0)
                        fail_msg("%s: leaf %lld of %s depends on its company", run_shapes[i].name,
                                 (long long)m, one.model->params[p]->name);
                    free(alone);
                    free(among);
                }
            run_close(&one);
        }
        run_data_release(&data);
        run_close(&many);
    }
}

/* A batch of k microbatches, all of them in flight at once: every forward pass before the first
 * backward pass, and the backward passes from the last microbatch to the first. */
static void step_together(struct run *run, const struct run_data *data, int64_t k,
                          char digest[HB_DIGEST_TEXT + 1])
{
    struct hb_stepper one[RUN_MICROBATCHES];
    struct hb_verdict verdict;
    int64_t labels = run_labels(data, k);
    run_begin(run, k, labels);
    for (int64_t m = 0; m < k; m++) {
        TH_OK(hb_stepper_init(&one[m], run->model, &run->optimizer, 1, RUN_ROWS));
        one[m].carry.loss_factor = run->stepper.carry.loss_factor;
        one[m].carry.balance.aux_factor = run->stepper.carry.balance.aux_factor;
        one[m].carry.balance.z_factor = run->stepper.carry.balance.z_factor;
        hb_tape_begin(&one[m].tape, &run->stepper.gradients, m);
        TH_OK(hb_carry_load(&one[m].carry, &data->batch[m], run->model->cosine, run->model->sine));
        TH_OK(hb_model_forward(run->model, &one[m].tape, &one[m].carry));
    }
    for (int64_t m = k - 1; m >= 0; m--)
        TH_OK(hb_model_backward(run->model, &one[m].tape));
    run_end(run);
    TH_OK(hb_optimizer_step(&run->optimizer, 1, (struct hb_tensor){0}, true, &verdict));
    TH_OK(hb_optimizer_digest(&run->optimizer, false, digest));
    for (int64_t m = 0; m < k; m++)
        hb_stepper_release(&one[m]);
}

/* k microbatches accumulated one after another are a batch of k. */
static void test_accumulated_or_together(void **state)
{
    (void)state;
    for (int i = 0; i < run_shape_count; i++) {
        struct run run;
        struct run_data data;
        struct hb_step_report accumulated;
        char together[HB_DIGEST_TEXT + 1];
        int64_t k = 2 + i % 4;
        if (run_shapes[i].config.balance == HB_BALANCE_BIAS)
            continue; /* the counts are the step's, added up where it keeps them */
        run_open(&run, &run_shapes[i], cpu(), 2, RUN_ROWS);
        run_data_make(&data, 91, run.model->config.vocab_size, RUN_ROWS);
        TH_OK(hb_step(&run.stepper, data.batch, k, 1, true, &accumulated));
        run_close(&run);
        run_open(&run, &run_shapes[i], cpu(), 2, RUN_ROWS);
        step_together(&run, &data, k, together);
        if (strcmp(accumulated.digest, together) != 0)
            fail_msg("%s: %lld microbatches accumulated give %s, together %s", run_shapes[i].name,
                     (long long)k, accumulated.digest, together);
        run_data_release(&data);
        run_close(&run);
    }
}

/* Microbatches of 600 rows: the head in one piece, or in three. */
static void test_head_in_chunks(void **state)
{
    (void)state;
    enum { ROWS = 600 };
    assert_int_equal(hb_head_chunk_rows(HB_HEAD_ELEMENTS, 101) % 256, 0);
    assert_int_equal(hb_head_chunk_rows(1, 101), 256);
    static const int straight[] = {0, 1};
    for (int i = 1; i <= 2; i++) { /* tied and not */
        struct run run;
        struct run_data data;
        struct th_outputs expected, got;
        run_open(&run, &run_shapes[i], cpu(), 2, ROWS);
        run_data_make(&data, 3, run.model->config.vocab_size, ROWS);
        roots_in_order(&run, &data, 2, straight, false, &expected);
        run.stepper.tape.head_elements = 1;
        roots_in_order(&run, &data, 2, straight, false, &got);
        th_assert_same_bits(run_shapes[i].name, &expected, &got);
        th_outputs_release(&expected);
        th_outputs_release(&got);
        run_data_release(&data);
        run_close(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everywhere),        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_postponed_weights), cmocka_unit_test(test_alone_or_among_others),
        cmocka_unit_test(test_head_in_chunks),    cmocka_unit_test(test_accumulated_or_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
