/* embedding: bits of every backend, a plain gather and scatter, absent rows,
 * gradient, refused calls, memory that fails. */
#include "ops/harness.h"

#include <math.h>
#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"

struct sample {
    int64_t n, V, C;
    int32_t *ids, *present;
    float *weight, *dout, *dweight;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n, int64_t V, int64_t C)
{
    struct sample s = {.n = n, .V = V, .C = C};
    s.ids = th_integers(seed, n, (int32_t)V);
    for (int64_t t = 0; t < n; t += 3) /* a frequent one, as text has */
        s.ids[t] = (int32_t)(V / 2);
    s.present = th_integers(seed + 1, V, 2);
    s.weight = th_numbers(kind, seed + 2, V * C);
    s.dout = th_numbers(kind, seed + 3, n * C);
    s.dweight = th_numbers(kind, seed + 4, V * C);
    return s;
}

static void release(struct sample *s)
{
    free(s->ids);
    free(s->present);
    free(s->weight);
    free(s->dout);
    free(s->dweight);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype real = th_real(context);
    struct hb_tensor ids = th_1d(context, HB_I32, s->n, s->ids),
                     present = th_1d(context, HB_I32, s->V, s->present);
    struct hb_tensor weight = th_2d(context, th_storage(context, 0), s->V, s->C, s->weight);
    struct hb_tensor rows = th_2d(context, th_storage(context, 1), s->n, s->C, NULL);
    struct hb_tensor dout = th_2d(context, th_storage(context, 2), s->n, s->C, s->dout);
    struct hb_tensor dweight = th_2d(context, real, s->V, s->C, s->dweight);
    TH_OK(hb_embedding_forward(
        context, &(struct hb_embedding_forward_args){.weight = weight, .ids = ids, .out = rows}));
    TH_OK(hb_embedding_backward(context,
                                &(struct hb_embedding_backward_args){
                                    .ids = ids, .dout = dout, .dweight = dweight, .present = present}));
    th_keep(out, context, "out", rows);
    th_keep(out, context, "dweight", dweight);
    th_keep(out, context, "present", present);
    struct hb_tensor *all[] = {&ids, &present, &weight, &rows, &dout, &dweight};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{0, 5, 8},      {1, 1, 1},      {7, 3, 31},
                                        {64, 1000, 32}, {65, 70000, 1}, {100, 1, 400},
                                        {129, 40, 257}, {300, 97, 513}, {4097, 11, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++) {
            if (kind != TH_NORMAL && i != 6)
                continue;
            struct sample s = make(kind, 10 * i, shapes[i][0], shapes[i][1], shapes[i][2]);
            char label[96];
            snprintf(label, sizeof label, "embedding n %d V %d C %d %s", (int)s.n, (int)s.V, (int)s.C,
                     th_kind_name(kind));
            th_same_bits_everywhere(label, run, &s);
            release(&s);
        }
    struct sample s = make(TH_NORMAL, 3, 300, 20, 130);
    s.dout[130 * 8 + 5] = NAN;
    s.dout[130 * 9 + 6] = INFINITY;
    th_same_bits_everywhere("embedding with NaN", run, &s);
    release(&s);
}

/* The contract in its own words: for each row, walk all tokens. */
static void test_against_plain_loops(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 4, 150, 60, 5);
    struct hb_context context;
    struct th_outputs out = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &s, &out);
    hb_context_close(&context);
    int absent = 0;
    for (int64_t r = 0; r < s.V; r++) {
        bool seen = false;
        float sum[5];
        for (int64_t t = 0; t < s.n; t++) {
            if (s.ids[t] != r)
                continue;
            for (int i = 0; i < 5; i++)
                sum[i] = seen ? sum[i] + s.dout[t * 5 + i] : s.dout[t * 5 + i];
            seen = true;
        }
        absent += !seen;
        assert_int_equal(((int32_t *)out.item[2].data)[r], seen ? 1 : s.present[r]);
        for (int i = 0; i < 5; i++) {
            float old = s.dweight[r * 5 + i];
            float expected = !seen ? old : s.present[r] ? old + sum[i] : sum[i];
            assert_true(((float *)out.item[1].data)[r * 5 + i] == expected);
        }
    }
    assert_true(absent > 0 && absent < s.V);
    for (int64_t t = 0; t < s.n; t++)
        assert_memory_equal((float *)out.item[0].data + t * 5, s.weight + s.ids[t] * 5, 5 * sizeof(float));
    th_outputs_release(&out);
    release(&s);
}

struct gradient {
    struct hb_context *context;
    const struct sample *s;
    double *weight;
    const double *g;
};

static double loss(void *data)
{
    struct gradient *c = data;
    const struct sample *s = c->s;
    struct hb_tensor ids = th_1d(c->context, HB_I32, s->n, s->ids);
    struct hb_tensor weight = th_2d(c->context, HB_F64, s->V, s->C, NULL);
    struct hb_tensor out = th_2d(c->context, HB_F64, s->n, s->C, NULL);
    th_put(c->context, weight, c->weight);
    TH_OK(hb_embedding_forward(
        c->context, &(struct hb_embedding_forward_args){.weight = weight, .ids = ids, .out = out}));
    double sum = 0;
    for (int64_t i = 0; i < s->n * s->C; i++)
        sum += c->g[i] * ((double *)out.data)[i];
    th_free(c->context, &ids);
    th_free(c->context, &weight);
    th_free(c->context, &out);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_NORMAL, 8, 40, 12, 3);
    memset(s.present, 0, (size_t)s.V * sizeof *s.present);
    memset(s.dweight, 0, (size_t)(s.V * s.C) * sizeof *s.dweight);
    struct th_outputs out = {0};
    run(&context, &s, &out);
    struct hb_tensor weight = th_2d(&context, HB_F64, s.V, s.C, s.weight);
    struct hb_tensor dout = th_2d(&context, HB_F64, s.n, s.C, s.dout);
    struct gradient c = {&context, &s, weight.data, dout.data};
    th_check_gradient("embedding", loss, &c, c.weight, out.item[1].data, s.V * s.C);
    th_free(&context, &weight);
    th_free(&context, &dout);
    th_outputs_release(&out);
    release(&s);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    int32_t zeros[6] = {0};
    struct hb_tensor ids = th_1d(&context, HB_I32, 3, zeros), present = th_1d(&context, HB_I32, 6, zeros);
    struct hb_tensor weight = th_2d(&context, HB_F32, 6, 4, NULL), out = th_2d(&context, HB_F32, 3, 4, NULL);
    struct hb_embedding_forward_args good = {.weight = weight, .ids = ids, .out = out}, a = good;
    TH_OK(hb_embedding_forward(&context, &good));
    a.out.shape[0] = 2;
    assert_int_equal(hb_embedding_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.out.shape[1] = 3;
    assert_int_equal(hb_embedding_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.ids.dtype = HB_F32;
    assert_int_equal(hb_embedding_forward(&context, &a), HB_ESHAPE);
    a = good;
    a.weight.home = &other;
    assert_int_equal(hb_embedding_forward(&context, &a), HB_EARGUMENT);
    struct hb_embedding_backward_args b = {.ids = ids, .dout = out, .dweight = weight, .present = present},
                                      w = b;
    TH_OK(hb_embedding_backward(&context, &b));
    w.present.shape[0] = 5;
    assert_int_equal(hb_embedding_backward(&context, &w), HB_ESHAPE);
    w = b;
    w.dweight.dtype = HB_BF16;
    assert_int_equal(hb_embedding_backward(&context, &w), HB_ESHAPE);
    w = b;
    w.dweight.shape[1] = 5;
    assert_int_equal(hb_embedding_backward(&context, &w), HB_ESHAPE);
    w = b;
    w.dout.home = NULL;
    assert_int_equal(hb_embedding_backward(&context, &w), HB_EARGUMENT);
    th_free(&context, &ids);
    th_free(&context, &present);
    th_free(&context, &weight);
    th_free(&context, &out);
    hb_context_close(&context);
    hb_context_close(&other);
}

/* Without its workspace the op fails before it has changed anything. */
static void test_no_memory(void **state)
{
    (void)state;
    const struct hb_cpu_level *levels;
    hb_cpu_levels(&levels);
    const struct hb_backend *backends[] = {&hb_backend_ref, levels[0].backend};
    for (int k = 0; k < 2; k++) {
        struct hb_context context;
        TH_OK(hb_context_open(backends[k], HB_CANONICAL, 1, &context));
        struct sample s = make(TH_NORMAL, 9, 50, 20, 4);
        struct hb_tensor ids = th_1d(&context, HB_I32, s.n, s.ids);
        struct hb_tensor present = th_1d(&context, HB_I32, s.V, s.present);
        struct hb_tensor dout = th_2d(&context, HB_F32, s.n, s.C, s.dout);
        struct hb_tensor dweight = th_2d(&context, HB_F32, s.V, s.C, s.dweight);
        struct hb_embedding_backward_args a = {
            .ids = ids, .dout = dout, .dweight = dweight, .present = present};
        hb_memory_fail_at(1);
        assert_int_equal(hb_embedding_backward(&context, &a), HB_EMEMORY);
        hb_memory_fail_at(0);
        float *still = th_host(&context, dweight);
        int32_t *flags = th_host(&context, present);
        assert_memory_equal(still, s.dweight, (size_t)(s.V * s.C) * sizeof(float));
        assert_memory_equal(flags, s.present, (size_t)s.V * sizeof(int32_t));
        free(still);
        free(flags);
        TH_OK(hb_embedding_backward(&context, &a));
        th_free(&context, &ids);
        th_free(&context, &present);
        th_free(&context, &dout);
        th_free(&context, &dweight);
        release(&s);
        hb_context_close(&context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_against_plain_loops),
        cmocka_unit_test(test_gradient),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
