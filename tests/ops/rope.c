/* rope: bits of every backend, gradient, rotation in double, its inverse,
 * relative positions, refused calls, rows alone and in company. */
#include "ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "ref/backend.h"

#define U (0.5 * (double)FLT_EPSILON)
enum { P = 50 };

struct sample {
    int64_t n, H, D;
    float *x, *cosine, *sine;
    int32_t *positions;
    bool backward;
};

static struct sample make(enum th_kind kind, uint64_t seed, int64_t n, int64_t H, int64_t D)
{
    struct sample s = {.n = n, .H = H, .D = D};
    s.x = th_numbers(kind, seed, n * H * D);
    s.positions = th_integers(seed + 1, n, P);
    s.cosine = th_numbers(TH_ZEROS, 0, P * D / 2);
    s.sine = th_numbers(TH_ZEROS, 0, P * D / 2);
    for (int64_t p = 0; p < P; p++)
        for (int64_t i = 0; i < D / 2; i++) {
            double angle = (double)p * pow(10000.0, -2.0 * (double)i / (double)D);
            s.cosine[p * D / 2 + i] = (float)cos(angle);
            s.sine[p * D / 2 + i] = (float)sin(angle);
        }
    return s;
}

static void release(struct sample *s)
{
    free(s->x);
    free(s->cosine);
    free(s->sine);
    free(s->positions);
}

/* y apart from x, then y over x. */
static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct sample *s = data;
    enum hb_dtype real = th_real(context);
    struct hb_tensor x = th_3d(context, th_storage(context, 0), s->n, s->H, s->D, s->x);
    struct hb_tensor y = th_3d(context, th_storage(context, 1), s->n, s->H, s->D, NULL);
    struct hb_tensor positions = th_1d(context, HB_I32, s->n, s->positions);
    struct hb_tensor cosine = th_2d(context, real, P, s->D / 2, s->cosine);
    struct hb_tensor sine = th_2d(context, real, P, s->D / 2, s->sine);
    struct hb_rope_args a = {
        .x = x, .positions = positions, .cosine = cosine, .sine = sine, .y = y, .backward = s->backward};
    TH_OK(hb_rope(context, &a));
    a.y = x;
    TH_OK(hb_rope(context, &a));
    th_keep(out, context, "y", y);
    th_keep(out, context, "y in place", x);
    struct hb_tensor *all[] = {&x, &y, &positions, &cosine, &sine};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        th_free(context, all[i]);
}

static void run_on_ref(const struct sample *s, struct th_outputs *out)
{
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, s, out);
    hb_context_close(&context);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{0, 1, 2},    {1, 1, 2},    {3, 5, 6},    {33, 16, 64},
                                        {65, 4, 128}, {129, 2, 66}, {7, 3, 1024}, {64, 9, 62}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++)
            for (int backward = 0; backward < 2; backward++) {
                if (kind != TH_NORMAL && i != 3)
                    continue;
                struct sample s = make(kind, 10 * i, shapes[i][0], shapes[i][1], shapes[i][2]);
                s.backward = backward;
                char label[96];
                snprintf(label, sizeof label, "rope [%d,%d,%d] %s backward %d", (int)s.n, (int)s.H, (int)s.D,
                         th_kind_name(kind), backward);
                th_same_bits_everywhere(label, run, &s);
                release(&s);
            }
    struct sample s = make(TH_NORMAL, 3, 65, 8, 66);
    s.x[5] = NAN;
    s.x[700] = INFINITY;
    th_same_bits_everywhere("rope with NaN", run, &s);
    release(&s);
}

static void test_in_place_is_apart(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 4, 9, 3, 34);
    struct th_outputs out = {0};
    run_on_ref(&s, &out);
    assert_memory_equal(out.item[0].data, out.item[1].data, (size_t)(s.n * s.H * s.D) * sizeof(float));
    th_outputs_release(&out);
    release(&s);
}

/* Two products and a sum: at most 2 u of the terms' magnitude. */
static void test_against_double(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 5, 40, 3, 96);
    for (int backward = 0; backward < 2; backward++) {
        s.backward = backward;
        struct th_outputs out = {0};
        run_on_ref(&s, &out);
        const float *y = out.item[0].data;
        for (int64_t t = 0; t < s.n; t++)
            for (int64_t h = 0; h < s.H; h++)
                for (int64_t i = 0; i < s.D; i++) {
                    int64_t half = s.D / 2, pair = i < half ? i + half : i - half, row = (t * s.H + h) * s.D;
                    double c = (double)s.cosine[s.positions[t] * half + i % half];
                    double sine = (double)s.sine[s.positions[t] * half + i % half];
                    double towards = (i < half) != (backward != 0) ? -sine : sine;
                    double own = (double)s.x[row + i] * c, other = (double)s.x[row + pair] * towards;
                    assert_true(fabs((double)y[row + i] - (own + other)) <=
                                2 * U * (fabs(own) + fabs(other)));
                }
        th_outputs_release(&out);
    }
    release(&s);
}

/* Backward undoes forward: 4 u of the pair's length, and cos^2 + sin^2 = 1 up to 2 u. */
static void test_backward_is_the_inverse(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 6, 40, 2, 32), back = s;
    struct th_outputs there = {0}, again = {0};
    run_on_ref(&s, &there);
    back.x = there.item[0].data;
    back.backward = true;
    run_on_ref(&back, &again);
    const float *x = again.item[0].data;
    for (int64_t row = 0; row < s.n * s.H; row++)
        for (int64_t i = 0; i < s.D / 2; i++) {
            const float *pair = s.x + row * s.D + i, *got = x + row * s.D + i;
            double length = hypot((double)pair[0], (double)pair[s.D / 2]);
            assert_true(fabs((double)got[0] - (double)pair[0]) <= 8 * U * length);
            assert_true(fabs((double)got[s.D / 2] - (double)pair[s.D / 2]) <= 8 * U * length);
        }
    th_outputs_release(&there);
    th_outputs_release(&again);
    release(&s);
}

/* What rope is for: q at position p and k at position r meet in a function of p - r. */
static void test_only_distance_counts(void **state)
{
    (void)state;
    enum { D = 64 };
    struct sample s = make(TH_NORMAL, 7, 4, 1, D);
    memcpy(s.x + 2 * D, s.x, 2 * D * sizeof(float)); /* q, k, q, k */
    const int32_t positions[] = {9, 4, 40, 35};
    memcpy(s.positions, positions, sizeof positions);
    struct th_outputs out = {0};
    run_on_ref(&s, &out);
    const float *y = out.item[0].data;
    double near = 0, far = 0, terms = 0;
    for (int i = 0; i < D; i++) {
        near += (double)y[i] * (double)y[D + i];
        far += (double)y[2 * D + i] * (double)y[3 * D + i];
        terms += fabs((double)y[i] * (double)y[D + i]) + fabs((double)y[2 * D + i] * (double)y[3 * D + i]);
    }
    /* Table and rotation err by a few u of a pair's length, which is at most twice its terms here. */
    assert_true(fabs(near - far) <= 32 * U * terms);
    th_outputs_release(&out);
    release(&s);
}

struct gradient {
    struct hb_context *context;
    const struct sample *s;
    double *x, *g;
};

static double loss(void *data)
{
    struct gradient *c = data;
    const struct sample *s = c->s;
    struct hb_tensor x = th_3d(c->context, HB_F64, s->n, s->H, s->D, NULL);
    struct hb_tensor positions = th_1d(c->context, HB_I32, s->n, s->positions);
    struct hb_tensor cosine = th_2d(c->context, HB_F64, P, s->D / 2, s->cosine);
    struct hb_tensor sine = th_2d(c->context, HB_F64, P, s->D / 2, s->sine);
    th_put(c->context, x, c->x);
    TH_OK(hb_rope(c->context, &(struct hb_rope_args){
                                  .x = x, .positions = positions, .cosine = cosine, .sine = sine, .y = x}));
    double sum = 0;
    for (int64_t i = 0; i < hb_tensor_count(&x); i++)
        sum += c->g[i] * ((double *)x.data)[i];
    th_free(c->context, &x);
    th_free(c->context, &positions);
    th_free(c->context, &cosine);
    th_free(c->context, &sine);
    return sum;
}

static void test_gradient(void **state)
{
    (void)state;
    struct hb_context context;
    th_open_double(&context);
    struct sample s = make(TH_NORMAL, 8, 5, 2, 6), back = s;
    back.x = th_numbers(TH_NORMAL, 9, s.n * s.H * s.D);
    back.backward = true;
    struct th_outputs out = {0};
    run(&context, &back, &out);
    int64_t n = s.n * s.H * s.D;
    struct hb_tensor x = th_1d(&context, HB_F64, n, s.x), g = th_1d(&context, HB_F64, n, back.x);
    struct gradient c = {&context, &s, x.data, g.data};
    th_check_gradient("rope", loss, &c, c.x, out.item[0].data, n);
    th_free(&context, &x);
    th_free(&context, &g);
    th_outputs_release(&out);
    free(back.x);
    release(&s);
    hb_context_close(&context);
}

static void test_rows_alone(void **state)
{
    (void)state;
    struct sample s = make(TH_NORMAL, 11, 20, 3, 64), one = s;
    struct th_outputs all = {0};
    run_on_ref(&s, &all);
    one.n = 1;
    for (int64_t t = 0; t < s.n; t += 7) {
        struct th_outputs alone = {0};
        one.x = s.x + t * s.H * s.D;
        one.positions = s.positions + t;
        run_on_ref(&one, &alone);
        assert_memory_equal(alone.item[0].data, (float *)all.item[0].data + t * s.H * s.D,
                            (size_t)(s.H * s.D) * sizeof(float));
        th_outputs_release(&alone);
    }
    th_outputs_release(&all);
    release(&s);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    int32_t zeros[2] = {0, 0};
    struct hb_tensor x = th_3d(&context, HB_F32, 2, 3, 4, NULL), table = th_2d(&context, HB_F32, 8, 2, NULL);
    struct hb_tensor positions = th_1d(&context, HB_I32, 2, zeros);
    struct hb_rope_args good = {.x = x, .positions = positions, .cosine = table, .sine = table, .y = x},
                        a = good;
    TH_OK(hb_rope(&context, &good));
    a.x.shape[2] = a.y.shape[2] = 3;
    assert_int_equal(hb_rope(&context, &a), HB_ESHAPE);
    a = good;
    a.positions.shape[0] = 1;
    assert_int_equal(hb_rope(&context, &a), HB_ESHAPE);
    a = good;
    a.positions.dtype = HB_I64;
    assert_int_equal(hb_rope(&context, &a), HB_ESHAPE);
    a = good;
    a.sine.shape[0] = 7;
    assert_int_equal(hb_rope(&context, &a), HB_ESHAPE);
    a = good;
    a.cosine.shape[1] = a.sine.shape[1] = 1;
    assert_int_equal(hb_rope(&context, &a), HB_ESHAPE);
    a = good;
    a.y.home = &other;
    assert_int_equal(hb_rope(&context, &a), HB_EARGUMENT);
    a = good;
    a.y.data = (float *)a.x.data + 1;
    assert_int_equal(hb_rope(&context, &a), HB_EARGUMENT);
    th_free(&context, &x);
    th_free(&context, &table);
    th_free(&context, &positions);
    hb_context_close(&context);
    hb_context_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_in_place_is_apart),
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_backward_is_the_inverse),
        cmocka_unit_test(test_only_distance_counts),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
