/* The kernels of attention: whoever sees whom (windows, sinks, slots, both
 * directions, rings), tails, head widths over several blocks, mixed storage,
 * numbers whose products underflow. */
#include "gpu/subjects.h"

#include "ops/attention_case.h"

static void check(struct shape shape, struct sight sight, enum th_kind kind)
{
    struct example e = example_with(&shape, &sight, kind, 31);
    char label[128];
    snprintf(label, sizeof label,
             "%d segments, %d keys, H %d, G %d, D %d, window %d, sinks %d, slots %d, combine %d, %s",
             shape.segments, (int)e.m, (int)shape.H, (int)shape.G, (int)shape.D, (int)sight.window,
             (int)sight.sinks, (int)sight.slots, (int)sight.combine, th_kind_name(kind));
    same_bits(label, run, &e, e.n * e.m * shape.H * shape.D > 40000);
    example_release(&e);
}

static void test_causal(void **state)
{
    (void)state;
    check((struct shape){3, {9, 0, 66}, {0}, 2, 1, 3}, (struct sight){0}, TH_NORMAL);
    check((struct shape){5, {10, 65, 1, 0, 130}, {0}, 4, 2, 17}, (struct sight){0}, TH_NORMAL);
    check((struct shape){1, {64}, {0}, 1, 1, 64}, (struct sight){0}, TH_NORMAL);
    check((struct shape){4, {1, 1, 40, 0}, {64, 65, 90, 5}, 2, 1, 24}, (struct sight){0}, TH_NORMAL);
    check((struct shape){0, {0}, {0}, 2, 1, 16}, (struct sight){0}, TH_NORMAL);
}

static void test_widths(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 32, 65, 128, 129, 300};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        check((struct shape){1, {35}, {0}, 2, 1, widths[i]}, (struct sight){.slots = (int64_t)i % 2},
              TH_NORMAL);
}

static void test_sight(void **state)
{
    (void)state;
    static const struct sight sights[] = {
        {.window = 3},
        {.window = 66},  /* the last key of a tile is seen by the first query of another only */
        {.window = 127}, /* the first key is out of the last query's sight only */
        {.window = 70, .sinks = 2},
        {.window = 64},
        {.window = 200, .sinks = 65},
        {.bidirectional = true},
        {.bidirectional = true, .window = 40, .sinks = 1},
        {.slots = 2},
        {.slots = 66, .window = 30, .combine = HB_JOINT},
        {.slots = 3, .window = 4, .combine = HB_SUM},
        {.slots = 64, .window = 20, .sinks = 1, .combine = HB_GATED},
        {.slots = 5, .bidirectional = true, .combine = HB_GATED},
    };
    for (size_t i = 0; i < sizeof sights / sizeof *sights; i++)
        check((struct shape){4, {9, 0, 67, 200}, {0}, 2, 1, 8}, sights[i], TH_NORMAL);
    check((struct shape){2, {9, 67}, {0}, 2, 1, 2}, (struct sight){.window = 66, .sinks = 1}, TH_NORMAL);
    check((struct shape){2, {9, 67}, {0}, 2, 1, 2}, (struct sight){.slots = 65, .combine = HB_GATED},
          TH_NORMAL);
}

/* More segments than a chunk of rule 4 holds rows, and dgate over more than one tile of queries. */
static void test_many_segments(void **state)
{
    (void)state;
    struct shape shape = {.segments = SEGMENTS_MAX, .H = 2, .G = 1, .D = 3};
    for (int s = 0; s < SEGMENTS_MAX; s++)
        shape.queries[s] = 1 + s % 3;
    shape.queries[5] = 140;
    check(shape, (struct sight){.slots = 2, .combine = HB_GATED}, TH_NORMAL);
}

static void test_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < TH_KIND_COUNT; kind++)
        check((struct shape){1, {70}, {0}, 2, 1, 20}, (struct sight){.slots = 3, .window = 60},
              (enum th_kind)kind);
}

/* Not a number where ref has one, and nowhere else. */
static void test_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 12; i++) {
        struct example e = example_with(&(struct shape){2, {80, 30}, {0}, 2, 2, 20},
                                        &(struct sight){.window = 50}, TH_NORMAL, 5);
        float *to[] = {e.q, e.k, e.v, e.dout};
        to[i / 3][(67 * 2 + 1) * 20 + 3] = bad[i % 3];
        same_bits("not finite", run, &e, true);
        example_release(&e);
    }
}

/* Each tensor its own storage type. */
static void run_mixed(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct example *e = data;
    const struct shape *s = &e->shape;
    struct hb_attention_forward_args f = forward_args(c, e);
    struct hb_tensor *inputs[] = {&f.q, &f.k, &f.v, &f.out};
    const float *host[] = {e->q, e->k, e->v, NULL};
    static const enum hb_dtype type[] = {HB_BF16, HB_F16, HB_F32, HB_BF16};
    for (int i = 0; i < 4; i++) {
        int64_t rows = inputs[i]->shape[0], heads = inputs[i]->shape[1];
        th_free(c, inputs[i]);
        *inputs[i] = th_3d(c, type[i], rows, heads, s->D, host[i]);
    }
    TH_OK(hb_attention_forward(c, &f));
    struct hb_attention_backward_args b = backward_args(c, e, &f);
    th_free(c, &b.dout);
    th_free(c, &b.dk);
    th_free(c, &b.dq);
    b.dout = th_3d(c, HB_F16, e->n, s->H, s->D, e->dout);
    b.dq = th_3d(c, HB_F16, e->n, s->H, s->D, NULL);
    b.dk = th_3d(c, HB_BF16, e->m, s->G, s->D, NULL);
    TH_OK(hb_attention_backward(c, &b));
    TH_OK(hb_sync(c));
    th_keep(out, c, "out", f.out);
    th_keep(out, c, "lse", f.lse);
    th_keep(out, c, "dq", b.dq);
    th_keep(out, c, "dk", b.dk);
    th_keep(out, c, "dv", b.dv);
    backward_free(c, &b);
    forward_free(c, &f);
}

static void test_storage(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){2, {70, 9}, {0}, 4, 2, 34}, TH_NORMAL, 8);
    same_bits("mixed storage", run_mixed, &e, true);
    example_release(&e);
}

/* Generation with keys in a ring: q_begin, k_begin count absolute positions. */
struct ring_case {
    int64_t window, sinks, ring, slots;
    int32_t queries[2], keys[2];
};

static void run_ring(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct ring_case *r = data;
    const int64_t H = 2, G = 1, D = 12;
    int32_t q_begin[3] = {0, r->queries[0], r->queries[0] + r->queries[1]};
    int32_t k_begin[3] = {0, r->keys[0], r->keys[0] + r->keys[1]};
    int64_t n = q_begin[2], m = 2 * r->ring;
    float *q = th_numbers(TH_NORMAL, 1, n * H * D), *k = th_numbers(TH_NORMAL, 2, m * G * D);
    float *v = th_numbers(TH_NORMAL, 3, m * G * D), *slots = th_numbers(TH_NORMAL, 4, r->slots * G * D);
    struct hb_attention_forward_args f = {
        .q = th_3d(c, HB_F32, n, H, D, q),
        .k = th_3d(c, HB_F32, m, G, D, k),
        .v = th_3d(c, HB_F32, m, G, D, v),
        .q_begin = th_1d(c, HB_I32, 3, q_begin),
        .k_begin = th_1d(c, HB_I32, 3, k_begin),
        .longest = 300,
        .scale = 0.3f,
        .window = r->window,
        .sinks = r->sinks,
        .ring = r->ring,
        .slots_k = if_wanted(c, r->slots > 0, r->slots, G, D, slots),
        .slots_v = if_wanted(c, r->slots > 0, r->slots, G, D, slots),
        .out = th_3d(c, HB_F32, n, H, D, NULL),
        .lse = th_2d(c, HB_F32, n, H, NULL),
    };
    TH_OK(hb_attention_forward(c, &f));
    TH_OK(hb_sync(c));
    th_keep(out, c, "out", f.out);
    th_keep(out, c, "lse", f.lse);
    forward_free(c, &f);
    free(q);
    free(k);
    free(v);
    free(slots);
}

static void test_ring(void **state)
{
    (void)state;
    static const struct ring_case cases[] = {
        {20, 0, 25, 0, {1, 2}, {300, 5}},
        {70, 3, 80, 2, {3, 1}, {201, 77}},
        {5, 0, 5, 0, {1, 1}, {64, 65}},
        {2, 0, 2, 0, {1, 1}, {64, 65}}, /* shorter than a thread's stride over rows */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        same_bits("ring", run_ring, &cases[i], i < 2);
}

/* Rows of k before the first segment and behind the last: not read, and without gradient. */
static void test_rows_outside(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {140}, {0}, 2, 1, 2}, TH_NORMAL, 61);
    e.n = e.q_begin[1] = 60;
    e.k_begin[0] = 70;
    e.k_begin[1] = 130;
    for (int64_t i = 0; i < e.m * 2; i++)
        if (i / 2 < 70 || i / 2 >= 130)
            e.k[i] = e.v[i] = NAN;
    same_bits("rows outside", run, &e, false);
    example_release(&e);
}

/* Every score of a query is -infinity. */
static void test_nothing_but_minus_infinity(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){1, {70}, {0}, 1, 1, 4}, TH_NORMAL, 3);
    for (int64_t i = 0; i < 70 * 4; i++) {
        e.q[i] = i / 4 == 66 ? 1e30f : 0.5f;
        e.k[i] = -1e30f;
    }
    same_bits("-infinity", run, &e, false);
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_causal),       cmocka_unit_test(test_widths),
        cmocka_unit_test(test_sight),        cmocka_unit_test(test_many_segments),
        cmocka_unit_test(test_kinds),        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_storage),      cmocka_unit_test(test_ring),
        cmocka_unit_test(test_rows_outside), cmocka_unit_test(test_nothing_but_minus_infinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
