/* attention: every backend against ref; ref64 against central differences; a
 * query's bits do not depend on what else the call holds; masked keys do not
 * exist; refused calls. (Its error: attention_bound.c.) */
#include "ops/attention_case.h"

#include "ref/backend.h"

static void same_everywhere(const struct shape *shape, enum th_kind kind)
{
    struct example e = example_of(shape, kind, 11);
    char label[96];
    snprintf(label, sizeof label, "%d segments, %lld keys, H %lld, G %lld, D %lld, %s", shape->segments,
             (long long)e.m, (long long)shape->H, (long long)shape->G, (long long)shape->D,
             th_kind_name(kind));
    th_same_bits_everywhere(label, run, &e);
    example_release(&e);
}

static const struct shape plain = {1, {70}, {0}, 2, 1, 20};

static void test_same_bits_lengths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1,  2,  15,  16,  17,  31,  32,  33,  63,
                                      64, 65, 100, 127, 128, 129, 192, 200, 600};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        same_everywhere(&(struct shape){1, {lengths[i]}, {0}, 1, 1, 16}, TH_NORMAL);
}

static void test_same_bits_widths(void **state)
{
    (void)state;
    static const int64_t widths[] = {1,  3,  8,  15, 16, 17,  24,  31,  32,  33,
                                     40, 63, 64, 65, 96, 128, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        same_everywhere(&(struct shape){1, {35}, {0}, 2, 2, widths[i]}, TH_NORMAL);
}

static void test_same_bits_heads(void **state)
{
    (void)state;
    static const int64_t heads[][2] = {{1, 1}, {3, 1}, {4, 2}, {6, 3}, {7, 7}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        same_everywhere(&(struct shape){1, {130}, {0}, heads[i][0], heads[i][1], 8}, TH_NORMAL);
}

static void test_same_bits_segments(void **state)
{
    (void)state;
    same_everywhere(&(struct shape){5, {10, 65, 1, 0, 130}, {0}, 2, 1, 16}, TH_NORMAL);
    struct shape many = {.segments = SEGMENTS_MAX, .H = 2, .G = 2, .D = 8};
    for (int s = 0; s < SEGMENTS_MAX; s++)
        many.queries[s] = 1 + (s * 7) % 23;
    same_everywhere(&many, TH_NORMAL);
    same_everywhere(&(struct shape){0, {0}, {0}, 2, 1, 16}, TH_NORMAL);
}

/* Fewer queries than keys: generation. */
static void test_same_bits_cache(void **state)
{
    (void)state;
    same_everywhere(&(struct shape){4, {1, 1, 1, 1}, {1, 64, 65, 200}, 4, 2, 32}, TH_NORMAL);
    same_everywhere(&(struct shape){3, {40, 7, 0}, {90, 135, 5}, 2, 1, 24}, TH_NORMAL);
}

static void test_same_bits_kinds(void **state)
{
    (void)state;
    for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++)
        same_everywhere(&plain, kind);
}

/* More than the contract promises (rule 13): NaN and infinity go where ref has them. */
static void test_same_bits_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct shape shape = {2, {80, 30}, {0}, 2, 2, 20};
    for (int b = 0; b < 3; b++)
        for (int where = 0; where < 4; where++) {
            struct example e = example_of(&shape, TH_NORMAL, 5);
            float *to[] = {e.q, e.k, e.v, e.dout};
            to[where][(67 * 2 + 1) * 20 + 3] = bad[b];
            th_same_bits_everywhere("not finite", run, &e);
            example_release(&e);
        }
}

/* Weights from 1 down to the denormals and 0: exp over the whole range of its results. */
static void test_same_bits_scores_far_apart(void **state)
{
    (void)state;
    struct shape shape = {.segments = 60, .H = 2, .G = 1, .D = 1};
    for (int s = 0; s < shape.segments; s++)
        shape.queries[s] = 64;
    struct example e = example_of(&shape, TH_NORMAL, 31);
    for (int64_t i = 0; i < e.n * 2; i++)
        e.q[i] = 1.0f;
    for (int64_t i = 0; i < e.m; i++)
        e.k[i] = -110.0f * (float)(i * 2654435761u % 65536u) / 65536.0f;
    th_same_bits_everywhere("scores far apart", run, &e);
    example_release(&e);
}

/* All scores of a query at -infinity: O = +0, lse = -infinity, no gradient, no NaN. */
static void test_nothing_but_minus_infinity(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {70}, {0}, 1, 1, 4}, TH_NORMAL, 3);
    for (int64_t i = 0; i < 70 * 4; i++) {
        e.q[i] = i / 4 == 66 ? 1e30f : 0.5f;
        e.k[i] = -1e30f;
    }
    struct hb_context c;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
    struct th_outputs out = {0};
    run(&c, &e, &out);
    hb_context_close(&c);
    const float *o = out.item[0].data, *lse = out.item[1].data, *dq = out.item[2].data;
    for (int d = 0; d < 4; d++) {
        assert_true(o[66 * 4 + d] == 0 && !signbit(o[66 * 4 + d]));
        assert_true(dq[66 * 4 + d] == 0 && !signbit(dq[66 * 4 + d]));
    }
    assert_true(lse[66] == -INFINITY);
    assert_true(isfinite(lse[65]) && isfinite(lse[67]));
    th_outputs_release(&out);
    th_same_bits_everywhere("scores of -infinity", run, &e);
    example_release(&e);
}

/* The numbers of `narrow` into `wide`, which is fp32. */
static void widen(struct hb_context *c, struct hb_tensor narrow, struct hb_tensor wide)
{
    double *values = th_doubles(c, narrow);
    float *floats = th_host(c, wide);
    for (int64_t i = 0; i < hb_tensor_count(&wide); i++)
        floats[i] = (float)values[i];
    TH_OK(hb_copy_in(c, wide, floats));
    free(values);
    free(floats);
}

/* bf16 and fp16 storage: the result is the fp32 result of the widened inputs, rounded once. */
static void test_storage(void **state)
{
    (void)state;
    static const enum hb_dtype dtypes[] = {HB_BF16, HB_F16};
    struct example e = example_of(&(struct shape){2, {70, 9}, {0}, 2, 1, 8}, TH_NORMAL, 21);
    for (int t = 0; t < 2; t++) {
        struct hb_context c;
        TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
        struct hb_attention_forward_args f = forward_args(&c, &e), g = f;
        g.q = th_3d(&c, dtypes[t], e.n, 2, 8, e.q);
        g.k = th_3d(&c, dtypes[t], e.m, 1, 8, e.k);
        g.v = th_3d(&c, dtypes[t], e.m, 1, 8, e.v);
        g.out = th_3d(&c, dtypes[t], e.n, 2, 8, NULL);
        widen(&c, g.q, f.q);
        widen(&c, g.k, f.k);
        widen(&c, g.v, f.v);
        TH_OK(hb_attention_forward(&c, &f));
        TH_OK(hb_attention_forward(&c, &g));
        float *exact = th_host(&c, f.out);
        uint16_t *stored = th_host(&c, g.out);
        for (int64_t i = 0; i < e.n * 16; i++)
            assert_int_equal(stored[i], t ? hb_f16_of_f32(exact[i]) : hb_bf16_of_f32(exact[i]));
        free(exact);
        free(stored);
        struct hb_tensor *own[] = {&g.q, &g.k, &g.v, &g.out};
        for (int i = 0; i < 4; i++)
            th_free(&c, own[i]);
        forward_free(&c, &f);
        hb_context_close(&c);
    }
    example_release(&e);
}

/* Rows [begin, begin + rows) of an output. */
static void assert_rows_equal(const char *what, const struct th_output *whole, int64_t row, int64_t begin,
                              int64_t rows, const struct th_output *part)
{
    assert_int_equal(part->n, rows * row);
    if (rows &&
        memcmp((float *)whole->data + begin * row, part->data, (size_t)(rows * row) * sizeof(float)) != 0)
        fail_msg("%s: rows %lld .. of %s depend on their company", what, (long long)begin, whole->name);
}

static void test_segment_alone_or_in_company(void **state)
{
    (void)state;
    struct shape shape = {4, {10, 65, 1, 130}, {0}, 4, 2, 24};
    struct example e = example_of(&shape, TH_NORMAL, 31);
    struct th_outputs all = run_fast(&e);
    for (int s = 0; s < 4; s++) {
        struct example one = e;
        one.shape.segments = 1;
        one.n = one.m = one.longest = one.q_begin[1] = one.k_begin[1] = shape.queries[s];
        one.q += (int64_t)e.q_begin[s] * 4 * 24;
        one.dout += (int64_t)e.q_begin[s] * 4 * 24;
        one.k += (int64_t)e.k_begin[s] * 2 * 24;
        one.v += (int64_t)e.k_begin[s] * 2 * 24;
        struct th_outputs alone = run_fast(&one);
        for (int o = 0; o < 5; o++)
            assert_rows_equal("segment", &all.item[o], o == 1 ? 4 : (o < 3 ? 4 : 2) * 24, e.q_begin[s], one.n,
                              &alone.item[o]);
        th_outputs_release(&alone);
    }
    th_outputs_release(&all);
    example_release(&e);
}

/* A forward in chunks of queries with a growing cache is the full forward (rule 14). */
static void test_chunks_of_queries(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 3, 16, 50, 64, 100};
    struct shape shape = {1, {150}, {0}, 2, 1, 40};
    struct example e = example_of(&shape, TH_NORMAL, 41);
    struct th_outputs all = run_fast(&e);
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
        for (int32_t begin = 0; begin < 150; begin += sizes[c]) {
            int32_t end = begin + sizes[c] < 150 ? begin + sizes[c] : 150;
            struct example chunk = e;
            chunk.backward = false;
            chunk.q += (int64_t)begin * 2 * 40;
            chunk.n = chunk.q_begin[1] = end - begin;
            chunk.m = chunk.longest = chunk.k_begin[1] = end;
            struct th_outputs part = run_fast(&chunk);
            assert_rows_equal("chunk", &all.item[0], 2 * 40, begin, chunk.n, &part.item[0]);
            assert_rows_equal("chunk", &all.item[1], 2, begin, chunk.n, &part.item[1]);
            th_outputs_release(&part);
        }
    th_outputs_release(&all);
    example_release(&e);
}

/* What a query does not see may be anything, NaN included. */
static void test_masked_keys_do_not_exist(void **state)
{
    (void)state;
    struct shape shape = {1, {100}, {0}, 1, 1, 16};
    struct example e = example_of(&shape, TH_NORMAL, 51);
    struct th_outputs before = run_fast(&e);
    for (int64_t i = 71 * 16; i < 100 * 16; i++)
        e.q[i] = e.k[i] = e.v[i] = e.dout[i] = NAN;
    struct th_outputs after = run_fast(&e);
    for (int o = 0; o < 3; o++) /* out, lse, dq */
        assert_memory_equal(before.item[o].data, after.item[o].data, 71 * (o == 1 ? 1 : 16) * sizeof(float));
    assert_true(isnan(((float *)after.item[0].data)[71 * 16]));
    th_outputs_release(&before);
    th_outputs_release(&after);
    example_release(&e);
}

/* Rows of k that no segment owns: not read, and without gradient. */
static void test_rows_outside(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {40}, {0}, 2, 2, 16}, TH_NORMAL, 61);
    int64_t row = 2 * 16;
    e.n = e.q_begin[1] = 30;
    e.k_begin[0] = 4; /* 40 rows of k, 30 in use */
    e.k_begin[1] = 34;
    for (int64_t i = 0; i < e.m * row; i++)
        if (i / row < 4 || i / row >= 34)
            e.k[i] = e.v[i] = NAN;
    struct th_outputs out = run_fast(&e);
    for (int o = 0; o < 5; o++) {
        const float *x = out.item[o].data;
        for (int64_t i = 0; i < out.item[o].n; i++) {
            assert_true(isfinite(x[i]));
            if (o >= 3 && (i / row < 4 || i / row >= 34))
                assert_true(x[i] == 0 && !signbit(x[i]));
        }
    }
    th_outputs_release(&out);
    th_same_bits_everywhere("rows outside", run, &e);
    example_release(&e);
}

static void test_gradient(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{2, {9, 4}, {0}, 4, 2, 6}, {1, {67}, {0}, 1, 1, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        th_check_gradients_of(example_of(&shapes[i], TH_NORMAL, 71));
}

/* The first query has one key: p = 1 and its output is the value, bit for bit.
 * Equal values come back as they are: the weights sum to 1. */
static void test_mean_of_values(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {129}, {0}, 1, 1, 16}, TH_NORMAL, 91);
    struct th_outputs out = run_fast(&e);
    for (int d = 0; d < 16; d++)
        assert_true(((float *)out.item[0].data)[d] == e.v[d]);
    th_outputs_release(&out);
    for (int64_t i = 0; i < 129 * 16; i++)
        e.v[i] = 3.0f;
    out = run_fast(&e);
    for (int64_t i = 0; i < 129 * 16; i++)
        assert_true(fabsf(((float *)out.item[0].data)[i] - 3.0f) <= 3 * 70 * 0x1p-24f);
    th_outputs_release(&out);
    example_release(&e);
}

static void test_refused(void **state)
{
    (void)state;
    struct example e = example_of(&plain, TH_NORMAL, 1);
    struct hb_context c, other;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &other));
    struct hb_attention_forward_args f = forward_args(&c, &e), bad;
    struct hb_attention_backward_args b = backward_args(&c, &e, &f), worse;
    TH_OK(hb_attention_forward(&c, &f));
    TH_OK(hb_attention_backward(&c, &b));
#define REFUSED(code, change)                                     \
    do {                                                          \
        bad = f;                                                  \
        change;                                                   \
        assert_int_equal(hb_attention_forward(&c, &bad), code);   \
        assert_non_null(strstr(hb_error(), "attention_forward")); \
    } while (0)
    REFUSED(HB_ESHAPE, bad.q.rank = 2);
    REFUSED(HB_ESHAPE, bad.q.dtype = HB_F64);
    REFUSED(HB_ESHAPE, bad.k.shape[2] = 19);
    REFUSED(HB_ESHAPE, bad.v.shape[0] = 69);
    REFUSED(HB_ESHAPE, (bad.k.shape[1] = bad.v.shape[1] = 3));
    REFUSED(HB_ESHAPE, (bad.k.shape[1] = bad.v.shape[1] = 0));
    REFUSED(HB_ESHAPE, (bad.q.shape[2] = bad.k.shape[2] = bad.v.shape[2] = 0));
    REFUSED(HB_ESHAPE, bad.q_begin.shape[0] = 0);
    REFUSED(HB_ESHAPE, bad.k_begin.shape[0] = 3);
    REFUSED(HB_ESHAPE, bad.q_begin.dtype = HB_I64);
    REFUSED(HB_ESHAPE, bad.lse.dtype = HB_BF16);
    REFUSED(HB_ESHAPE, bad.lse.shape[0] = 71);
    REFUSED(HB_ESHAPE, bad.out.shape[0] = 71);
    REFUSED(HB_EARGUMENT, bad.longest = -1);
    REFUSED(HB_EARGUMENT, bad.out.data = bad.q.data);
    REFUSED(HB_EARGUMENT, bad.v.home = &other);
    REFUSED(HB_EARGUMENT, bad.k.data = NULL);
#undef REFUSED
#define REFUSED(code, change)                                      \
    do {                                                           \
        worse = b;                                                 \
        change;                                                    \
        assert_int_equal(hb_attention_backward(&c, &worse), code); \
        assert_non_null(strstr(hb_error(), "attention_backward")); \
    } while (0)
    REFUSED(HB_ESHAPE, worse.dout.shape[0] = 69);
    REFUSED(HB_ESHAPE, worse.dk.shape[1] = 2);
    REFUSED(HB_ESHAPE, worse.dv.rank = 2);
    REFUSED(HB_ESHAPE, worse.lse.shape[1] = 1);
    REFUSED(HB_EARGUMENT, worse.dq.data = worse.dout.data);
    REFUSED(HB_EARGUMENT, worse.dk.data = worse.k.data);
    REFUSED(HB_EARGUMENT, worse.dv.data = worse.dk.data);
    REFUSED(HB_EARGUMENT, worse.dq.home = &other);
#undef REFUSED
    backward_free(&c, &b);
    forward_free(&c, &f);
    hb_context_close(&c);
    hb_context_close(&other);
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_lengths),
        cmocka_unit_test(test_same_bits_widths),
        cmocka_unit_test(test_same_bits_heads),
        cmocka_unit_test(test_same_bits_segments),
        cmocka_unit_test(test_same_bits_cache),
        cmocka_unit_test(test_same_bits_kinds),
        cmocka_unit_test(test_same_bits_not_finite),
        cmocka_unit_test(test_same_bits_scores_far_apart),
        cmocka_unit_test(test_nothing_but_minus_infinity),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_segment_alone_or_in_company),
        cmocka_unit_test(test_chunks_of_queries),
        cmocka_unit_test(test_masked_keys_do_not_exist),
        cmocka_unit_test(test_rows_outside),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_mean_of_values),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
