/* attention with windows, sinks, slots and in both directions: ref64 against
 * central differences, what equals what, every backend against ref. */
#include "ops/attention_case.h"

#include "ref/backend.h"

static const struct {
    struct shape shape;
    struct sight sight;
} cases[] = {
    {{2, {9, 4}, {0}, 4, 2, 6}, {.window = 3}},
    {{1, {70}, {0}, 1, 1, 2}, {.window = 5, .sinks = 2}},
    {{2, {9, 70}, {0}, 2, 1, 4}, {.bidirectional = true}},
    {{2, {9, 4}, {0}, 2, 1, 4}, {.bidirectional = true, .window = 4, .sinks = 1}},
    {{3, {5, 0, 8}, {0}, 4, 2, 3}, {.slots = 2}},
    {{2, {9, 4}, {0}, 2, 2, 4}, {.slots = 66, .window = 3}},
    {{2, {9, 4}, {0}, 4, 2, 4}, {.slots = 3, .window = 4, .combine = HB_SUM}},
    {{2, {9, 67}, {0}, 4, 2, 2}, {.slots = 3, .window = 4, .sinks = 1, .combine = HB_GATED}},
};

/* Loss = sum of out dout, as a function of one input. */
struct probe {
    struct hb_context context;
    struct hb_attention_forward_args f;
    struct hb_tensor *input;
    double *x;
    const double *weight;
};

static double loss(void *data)
{
    struct probe *p = data;
    th_put(&p->context, *p->input, p->x);
    TH_OK(hb_attention_forward(&p->context, &p->f));
    double *out = th_doubles(&p->context, p->f.out), sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&p->f.out); i++)
        sum += out[i] * p->weight[i];
    free(out);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct example e = example_with(&cases[i].shape, &cases[i].sight, TH_NORMAL, 71);
        struct probe p = {0};
        th_open_double(&p.context);
        p.f = forward_args(&p.context, &e);
        TH_OK(hb_attention_forward(&p.context, &p.f));
        struct hb_attention_backward_args b = backward_args(&p.context, &e, &p.f);
        TH_OK(hb_attention_backward(&p.context, &b));
        double *weight = th_doubles(&p.context, b.dout);
        p.weight = weight;
        static const char *const names[] = {"dq", "dk", "dv", "dslots_k", "dslots_v", "dgate"};
        struct hb_tensor *inputs[] = {&p.f.q, &p.f.k, &p.f.v, &p.f.slots_k, &p.f.slots_v, &p.f.gate};
        struct hb_tensor *gradients[] = {&b.dq, &b.dk, &b.dv, &b.dslots_k, &b.dslots_v, &b.dgate};
        for (int g = 0; g < 6; g++) {
            if (!inputs[g]->data)
                continue;
            double *dx = th_doubles(&p.context, *gradients[g]);
            p.input = inputs[g];
            p.x = th_doubles(&p.context, *p.input);
            th_check_gradient(names[g], loss, &p, p.x, dx, hb_tensor_count(p.input));
            th_put(&p.context, *p.input, p.x);
            free(p.x);
            free(dx);
        }
        free(weight);
        backward_free(&p.context, &b);
        forward_free(&p.context, &p.f);
        hb_context_close(&p.context);
        example_release(&e);
    }
}

static void test_wide_window_is_none(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){2, {150, 40}, {0}, 2, 1, 8}, TH_NORMAL, 5);
    struct th_outputs full = run_on(&hb_backend_ref, &e);
    for (int64_t window = 150; window < 152; window++) {
        e.sight.window = window;
        e.sight.sinks = window - 150;
        struct th_outputs wide = run_on(&hb_backend_ref, &e);
        th_assert_same_bits("window of the whole segment", &full, &wide);
        th_outputs_release(&wide);
    }
    e.sight = (struct sight){.window = 149}; /* one pair less */
    struct th_outputs narrow = run_on(&hb_backend_ref, &e);
    assert_memory_not_equal(full.item[0].data, narrow.item[0].data, (size_t)(190 * 16) * sizeof(float));
    th_outputs_release(&narrow);
    th_outputs_release(&full);
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_wide_window_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
