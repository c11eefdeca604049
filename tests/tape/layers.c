/* Every layer of the tape on ref64: gradients of inputs and weights against
 * central differences, in one run and with the weight entries postponed. */
#include "tape/layers.h"

#include "ops/harness.h"
#include "ref/backend.h"
#include "tape/moe.h"

enum { INPUTS = 3, PARAMS = 5, N = 11, C = 6, F = 5, D = 2, E = 4, V = 9 };

/* A layer between leaf variables and a scalar loss: the sum of the output
 * weighted by fixed random numbers. */
struct subject {
    struct hb_context context;
    struct hb_tape tape;
    struct hb_gradients gradients;
    double *input[INPUTS]; /* [N, width] */
    int64_t width[INPUTS];
    int input_count;
    struct hb_param param[PARAMS];
    int param_count;
    double *direction; /* [N * 3 * C] */
    hb_status (*forward)(struct subject *s, struct hb_var **in, struct hb_var **out);
    double (*side_loss)(struct subject *s); /* NULL, or a term that the layer adds to the loss */
    struct hb_positions positions;
    struct hb_tensor ids, labels, loss;
    struct hb_moe moe;
    struct hb_balance balance;
};

static double *random_doubles(uint64_t seed, int64_t n)
{
    float *x = th_numbers(TH_NORMAL, seed, n);
    double *out = malloc((size_t)n * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)x[i];
    free(x);
    return out;
}

static void open_subject(struct subject *s)
{
    memset(s, 0, sizeof *s);
    th_open_double(&s->context);
    hb_tape_init(&s->tape, &s->context);
    hb_gradients_init(&s->gradients, &s->context);
    s->direction = random_doubles(99, N * 3 * C);
    static const int32_t begin[] = {0, 4, 5, N}, place[N] = {0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5};
    float *cosine = th_numbers(TH_NORMAL, 5, N * D / 2), *sine = th_numbers(TH_NORMAL, 6, N * D / 2);
    s->positions = (struct hb_positions){.begin = th_1d(&s->context, HB_I32, 4, begin),
                                         .k_begin = th_1d(&s->context, HB_I32, 4, begin),
                                         .longest = 6,
                                         .place = th_1d(&s->context, HB_I32, N, place),
                                         .cosine = th_2d(&s->context, HB_F64, N, D / 2, cosine),
                                         .sine = th_2d(&s->context, HB_F64, N, D / 2, sine)};
    free(cosine);
    free(sine);
}

static void add_input(struct subject *s, int64_t width)
{
    s->input[s->input_count] = random_doubles(10 + (uint64_t)s->input_count, N * width);
    s->width[s->input_count++] = width;
}

/* [rows], [rows, columns] or [stack, rows, columns]. */
static struct hb_param *add_param(struct subject *s, int64_t stack, int64_t rows, int64_t columns, bool flags)
{
    struct hb_param *p = &s->param[s->param_count];
    int64_t shape[3], rank = 0, n = 1;
    if (stack)
        shape[rank++] = stack;
    shape[rank++] = rows;
    if (columns)
        shape[rank++] = columns;
    for (int64_t d = 0; d < rank; d++)
        n *= shape[d];
    float *numbers = th_numbers(TH_NORMAL, 20 + (uint64_t)s->param_count++, n);
    *p = (struct hb_param){.name = "weight", .groups = 1, .trained = true, .use_count = 1};
    p->value = th_tensor(&s->context, HB_F64, (int)rank, shape, numbers);
    p->use[0].root = th_tensor(&s->context, HB_F64, (int)rank, shape, NULL);
    if (flags)
        p->use[0].present = th_1d(&s->context, HB_I32, shape[0], NULL);
    free(numbers);
    return p;
}

static void close_subject(struct subject *s)
{
    assert_int_equal(s->tape.live_vars, 0);
    assert_int_equal(s->tape.pool.in_use, 0);
    for (int i = 0; i < s->input_count; i++)
        free(s->input[i]);
    for (int p = 0; p < s->param_count; p++) {
        th_free(&s->context, &s->param[p].value);
        th_free(&s->context, &s->param[p].use[0].root);
        th_free(&s->context, &s->param[p].use[0].present);
    }
    struct hb_tensor *tensors[] = {&s->positions.begin,  &s->positions.k_begin,
                                   &s->positions.place,  &s->positions.cosine,
                                   &s->positions.sine,   &s->ids,
                                   &s->labels,           &s->loss,
                                   &s->balance.counts,   &s->balance.prob_sum,
                                   &s->balance.fraction, &s->balance.aux,
                                   &s->balance.z_squares};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++)
        th_free(&s->context, tensors[i]);
    free(s->direction);
    hb_tape_release(&s->tape);
    hb_gradients_release(&s->gradients);
    hb_context_close(&s->context);
}

static void make_inputs(struct subject *s, struct hb_var **in)
{
    for (int i = 0; i < s->input_count; i++) {
        TH_OK(hb_var_create(&s->tape, HB_CLASS_ACTIVATION, 2, (int64_t[]){N, s->width[i]}, &in[i]));
        th_put(&s->context, in[i]->value, s->input[i]);
    }
}

static double loss_of(void *data)
{
    struct subject *s = data;
    struct hb_var *in[INPUTS], *out = NULL;
    double sum = 0;
    hb_tape_begin(&s->tape, NULL, 0);
    make_inputs(s, in);
    TH_OK(s->forward(s, in, &out));
    if (out) {
        double *y = th_doubles(&s->context, out->value);
        for (int64_t i = 0; i < hb_tensor_count(&out->value); i++)
            sum += y[i] * s->direction[i];
        free(y);
    }
    if (s->side_loss)
        sum += s->side_loss(s);
    hb_var_drop(&s->tape, out);
    for (int i = 0; i < s->input_count; i++)
        hb_var_drop(&s->tape, in[i]);
    return sum;
}

/* One recorded pass; the gradients of the inputs are the caller's to free. */
static void backward(struct subject *s, bool postponed, double **input_gradient)
{
    struct hb_var *in[INPUTS], *out = NULL;
    struct hb_param *list[PARAMS];
    for (int p = 0; p < s->param_count; p++)
        list[p] = &s->param[p];
    hb_gradients_begin(&s->gradients, 1, list, s->param_count);
    hb_tape_begin(&s->tape, &s->gradients, 0);
    make_inputs(s, in);
    TH_OK(s->forward(s, in, &out));
    if (out) {
        struct hb_buffer *buffer;
        struct hb_tensor grad;
        TH_OK(hb_var_grad_buffer(&s->tape, out, &buffer, &grad));
        th_put(&s->context, grad, s->direction);
        TH_OK(hb_var_contribute(&s->tape, out, HB_F64, buffer));
    }
    hb_var_drop(&s->tape, out);
    TH_OK(hb_tape_backward_input(&s->tape, 0, s->tape.entry_count, !postponed));
    for (int64_t i = 0; i < s->tape.entry_count; i++) /* what waits is what was postponed, and nothing else */
        assert_int_equal(s->tape.entries[i].weight_done,
                         !postponed || !s->tape.entries[i].kind->backward_weight);
    TH_OK(hb_tape_backward_weight(&s->tape, 0, s->tape.entry_count));
    TH_OK(hb_gradients_close(&s->gradients, list, s->param_count));
    for (int i = 0; i < s->input_count; i++) {
        assert_non_null(in[i]->grad_buffer);
        input_gradient[i] = th_doubles(&s->context, in[i]->grad);
        hb_var_drop(&s->tape, in[i]);
    }
}

static void check(struct subject *s, const char *label)
{
    for (int postponed = 0; postponed < 2; postponed++) {
        double *gradient[INPUTS];
        backward(s, postponed, gradient);
        for (int i = 0; i < s->input_count; i++) {
            th_check_gradient(label, loss_of, s, s->input[i], gradient[i], N * s->width[i]);
            free(gradient[i]);
        }
        for (int p = 0; p < s->param_count; p++) {
            double *root = th_doubles(&s->context, s->param[p].use[0].root);
            int64_t n = hb_tensor_count(&s->param[p].value);
            bool nothing = true;
            for (int64_t i = 0; i < n; i++)
                nothing = nothing && root[i] == 0;
            assert_false(nothing);
            th_check_gradient(label, loss_of, s, s->param[p].value.data, root, n); /* host memory */
            free(root);
        }
    }
    close_subject(s);
}

/* --- the layers --- */

static hb_status embedding(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    (void)in;
    return hb_tape_embedding(&s->tape, &s->param[0], 0, s->ids, out);
}

static void test_embedding(void **state)
{
    (void)state;
    static const int32_t ids[N] = {3, 1, 3, 3, 0, 8, 1, 2, 8, 3, 5}; /* 4, 6, 7 never */
    struct subject s;
    open_subject(&s);
    s.ids = th_1d(&s.context, HB_I32, N, ids);
    add_param(&s, 0, V, C, true);
    s.forward = embedding;
    check(&s, "embedding");
}

static hb_status rmsnorm(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    return hb_tape_rmsnorm(&s->tape, in[0], &s->param[0], 0.01f, out);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    for (int64_t width = D; width <= C; width += C - D) { /* per head, whole rows */
        struct subject s;
        open_subject(&s);
        add_input(&s, C);
        add_param(&s, 0, width, 0, false);
        s.forward = rmsnorm;
        check(&s, "rmsnorm");
    }
}

/* Three siblings, whose outputs meet again so that each has its own gradient. */
static hb_status siblings(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    struct hb_var *y[3], *sum, *hidden;
    struct hb_param *weights[] = {&s->param[0], &s->param[1], &s->param[2]};
    HB_TRY(hb_tape_linears(&s->tape, in[0], 3, weights, HB_CLASS_ACTIVATION, y));
    HB_TRY(hb_tape_add(&s->tape, y[0], y[1], HB_CLASS_RESIDUAL, &sum));
    hb_status status = hb_tape_swiglu(&s->tape, sum, y[2], &hidden);
    hb_var_drop(&s->tape, sum);
    for (int i = 0; i < 3; i++)
        hb_var_drop(&s->tape, y[i]);
    *out = hidden;
    return status;
}

static void test_linears(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    for (int i = 0; i < 3; i++)
        add_param(&s, 0, F, C, false);
    s.forward = siblings;
    check(&s, "linears");
}

static hb_status swiglu(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    return hb_tape_swiglu(&s->tape, in[0], in[1], out);
}

static void test_swiglu(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, F);
    add_input(&s, F);
    s.forward = swiglu;
    check(&s, "swiglu");
}

/* a + b, where `a` is used a second time, as in a residual stream. */
static hb_status residual(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    struct hb_var *normed, *mixed;
    HB_TRY(hb_tape_rmsnorm(&s->tape, in[0], &s->param[0], 0.01f, &normed));
    HB_TRY(hb_tape_add(&s->tape, normed, in[1], HB_CLASS_RESIDUAL, &mixed));
    hb_var_drop(&s->tape, normed);
    hb_status status = hb_tape_add(&s->tape, in[0], mixed, HB_CLASS_RESIDUAL, out);
    hb_var_drop(&s->tape, mixed);
    return status;
}

static void test_residual(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    add_input(&s, C);
    add_param(&s, 0, C, 0, false);
    s.forward = residual;
    check(&s, "residual");
}

/* The sums first, the norm later: now the shared gradients come second. */
static hb_status residual_first(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    struct hb_var *sum = NULL, *normed = NULL;
    hb_status status = hb_tape_add(&s->tape, in[0], in[1], HB_CLASS_RESIDUAL, &sum);
    if (status == HB_OK)
        status = hb_tape_rmsnorm(&s->tape, in[0], &s->param[0], 0.01f, &normed);
    if (status == HB_OK)
        status = hb_tape_add(&s->tape, sum, normed, HB_CLASS_RESIDUAL, out);
    hb_var_drop(&s->tape, sum);
    hb_var_drop(&s->tape, normed);
    return status;
}

static void test_residual_first(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    add_input(&s, C);
    add_param(&s, 0, C, 0, false);
    s.forward = residual_first;
    check(&s, "residual first");
}

static hb_status twice(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    return hb_tape_add(&s->tape, in[0], in[0], HB_CLASS_RESIDUAL, out);
}

static void test_twice_the_same(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    s.forward = twice;
    check(&s, "x + x");
}

/* Rope turns in place; its gradient here shares memory with that of in[1]. */
static hb_status rope(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    HB_TRY(hb_tape_rope(&s->tape, in[0], D, &s->positions));
    return hb_tape_add(&s->tape, in[0], in[1], HB_CLASS_RESIDUAL, out);
}

static void test_rope(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    add_input(&s, C);
    s.forward = rope;
    check(&s, "rope");
}

static hb_status attention(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    static const struct hb_attention_layer layer = {.head_width = D, .scale = 0.7f};
    return hb_tape_attention(&s->tape, &layer, &s->positions, in[0], in[1], in[2], out);
}

static void test_attention(void **state)
{
    (void)state;
    struct subject s;
    open_subject(&s);
    add_input(&s, 4 * D); /* H = 4, G = 2 */
    add_input(&s, 2 * D);
    add_input(&s, 2 * D);
    s.forward = attention;
    check(&s, "attention");
}

static hb_status head(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    *out = NULL;
    return hb_tape_head(&s->tape, in[0], &s->param[0], 0, s->labels, 0.25f, s->loss);
}

static double head_loss(struct subject *s)
{
    double sum = 0, *loss = th_doubles(&s->context, s->loss);
    for (int64_t t = 0; t < N; t++)
        sum += 0.25 * loss[t];
    free(loss);
    return sum;
}

static void test_head(void **state)
{
    (void)state;
    static const int32_t labels[N] = {3, -100, 8, 0, 0, 2, -1, 7, 4, 4, 1};
    struct subject s;
    open_subject(&s);
    add_input(&s, C);
    add_param(&s, 0, V, C, false);
    s.labels = th_1d(&s.context, HB_I32, N, labels);
    s.loss = th_1d(&s.context, HB_F64, N, NULL);
    s.forward = head;
    s.side_loss = head_loss;
    check(&s, "head");
}

/* --- the expert layer --- */

static hb_status moe(struct subject *s, struct hb_var **in, struct hb_var **out)
{
    HB_TRY(hb_balance_begin(&s->context, &s->balance));
    HB_TRY(hb_tape_moe(&s->tape, in[0], &s->moe, &s->balance, NULL, out));
    return hb_balance_end(&s->context, &s->balance, N);
}

static double moe_loss(struct subject *s)
{
    double *aux = th_doubles(&s->context, s->balance.aux), *z = th_doubles(&s->context, s->balance.z_squares);
    double sum = (double)s->balance.z_factor * z[0] / N;
    if (s->balance.kind == HB_BALANCE_HF || s->balance.kind == HB_BALANCE_LAYER)
        sum += (double)s->balance.aux_factor * aux[0];
    free(aux);
    free(z);
    return sum;
}

/* Blocks of 256 rows, as many as fit into the elements, and at least one. */
static void test_head_chunk_rows(void **state)
{
    (void)state;
    assert_int_equal(hb_head_chunk_rows(1 << 20, 1024), 1024);
    assert_int_equal(hb_head_chunk_rows(1 << 20, 1500), 512);
    assert_int_equal(hb_head_chunk_rows(1 << 20, 4096), 256);
    assert_int_equal(hb_head_chunk_rows(1 << 20, 100000), 256);
}

static void open_moe(struct subject *s, enum hb_balance_kind kind, int64_t top_k, bool renormalise, bool bias)
{
    open_subject(s);
    add_input(s, C);
    s->moe = (struct hb_moe){.router = add_param(s, 0, E, C, false),
                             .gate = add_param(s, E, F, C, true),
                             .up = add_param(s, E, F, C, true),
                             .down = add_param(s, E, C, F, true),
                             .router_bias = bias ? add_param(s, 0, E, 0, false) : NULL,
                             .top_k = top_k,
                             .renormalise = renormalise};
    bool loss = kind == HB_BALANCE_HF || kind == HB_BALANCE_LAYER;
    s->balance = (struct hb_balance){.kind = kind,
                                     .layers = 1,
                                     .experts = E,
                                     .counts = th_2d(&s->context, HB_I64, 1, E, NULL),
                                     .prob_sum = th_1d(&s->context, HB_F64, E, NULL),
                                     .fraction = th_2d(&s->context, HB_F64, 1, E, NULL),
                                     .aux = th_1d(&s->context, HB_F64, 1, NULL),
                                     .z_squares = th_1d(&s->context, HB_F64, 1, NULL),
                                     .aux_factor = loss ? 0.5f : 0,
                                     .z_factor = 0.25f};
    s->forward = moe;
    s->side_loss = moe_loss;
}

static void test_moe(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        enum hb_balance_kind kind;
        int64_t top_k;
        bool renormalise, bias;
    } cases[] = {
        {"hf, renormalised", HB_BALANCE_HF, 2, true, false},
        {"layer, plain", HB_BALANCE_LAYER, 2, false, false},
        {"top 1, plain", HB_BALANCE_LAYER, 1, false, true},
        {"none, all experts", HB_BALANCE_NONE, E, false, true},
        {"bias, renormalised", HB_BALANCE_BIAS, 3, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct subject s;
        open_moe(&s, cases[i].kind, cases[i].top_k, cases[i].renormalise, cases[i].bias);
        check(&s, cases[i].label);
    }
}

/* `choices` tells the experts, and the counts agree with it. */
static void test_moe_choices(void **state)
{
    (void)state;
    struct subject s;
    struct hb_var *in[INPUTS], *out;
    open_moe(&s, HB_BALANCE_HF, 2, true, false);
    struct hb_choices choices = {.index = th_2d(&s.context, HB_I32, N, 2, NULL),
                                 .weight = th_2d(&s.context, HB_F64, N, 2, NULL)};
    hb_tape_begin(&s.tape, NULL, 0);
    make_inputs(&s, in);
    TH_OK(hb_balance_begin(&s.context, &s.balance));
    TH_OK(hb_tape_moe(&s.tape, in[0], &s.moe, &s.balance, &choices, &out));
    double *weight = th_doubles(&s.context, choices.weight);
    double *chosen = th_doubles(&s.context, choices.index),
           *counts = th_doubles(&s.context, s.balance.counts);
    for (int e = 0; e < E; e++) {
        int seen = 0;
        for (int i = 0; i < N * 2; i++)
            seen += (int)chosen[i] == e;
        assert_int_equal(seen, (int)counts[e]);
    }
    for (int t = 0; t < N; t++) {
        double *w = weight + 2 * t;
        assert_true(chosen[2 * t] != chosen[2 * t + 1]);
        assert_true(w[0] >= w[1] && w[1] > 0 && w[0] + w[1] > 1 - 1e-12 && w[0] + w[1] < 1 + 1e-12);
    }
    free(weight);
    free(chosen);
    free(counts);
    hb_var_drop(&s.tape, in[0]);
    hb_var_drop(&s.tape, out);
    th_free(&s.context, &choices.index);
    th_free(&s.context, &choices.weight);
    close_subject(&s);
}

/* --- the tape itself --- */

static void test_third_consumer(void **state)
{
    (void)state;
    struct subject s;
    struct hb_var *x;
    open_subject(&s);
    TH_OK(hb_var_create(&s.tape, HB_CLASS_ACTIVATION, 1, (int64_t[]){4}, &x));
    for (int i = 0; i < 3; i++) {
        struct hb_buffer *buffer;
        struct hb_tensor grad;
        TH_OK(hb_var_grad_buffer(&s.tape, x, &buffer, &grad));
        th_put(&s.context, grad, (double[]){1, 2, 3, 4});
        assert_int_equal(hb_var_contribute(&s.tape, x, HB_F64, buffer), i < 2 ? HB_OK : HB_EINTERNAL);
    }
    double *sum = th_doubles(&s.context, x->grad);
    assert_true(sum[0] == 2 && sum[3] == 8);
    free(sum);
    hb_var_drop(&s.tape, x);
    close_subject(&s);
}

/* A microbatch that was not taken back leaves nothing behind. */
static void test_abandoned(void **state)
{
    (void)state;
    struct subject s;
    struct hb_var *in[INPUTS], *out;
    open_moe(&s, HB_BALANCE_HF, 2, true, false);
    struct hb_param *list[] = {&s.param[0], &s.param[1], &s.param[2], &s.param[3]};
    hb_gradients_begin(&s.gradients, 1, list, 4);
    hb_tape_begin(&s.tape, &s.gradients, 0);
    make_inputs(&s, in);
    TH_OK(moe(&s, in, &out));
    hb_var_drop(&s.tape, in[0]);
    hb_var_drop(&s.tape, out);
    assert_true(s.tape.live_vars > 0);
    hb_tape_begin(&s.tape, NULL, 0);
    close_subject(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_linears),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_residual),
        cmocka_unit_test(test_residual_first),
        cmocka_unit_test(test_twice_the_same),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_head_chunk_rows),
        cmocka_unit_test(test_moe),
        cmocka_unit_test(test_moe_choices),
        cmocka_unit_test(test_third_consumer),
        cmocka_unit_test(test_abandoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
