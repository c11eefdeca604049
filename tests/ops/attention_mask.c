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

static void test_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        th_check_gradients_of(example_with(&cases[i].shape, &cases[i].sight, TH_NORMAL, 71));
}

static void test_wide_window_is_none(void **state)
{
    (void)state;
    struct example e = example_of(&(struct shape){2, {150, 40}, {0}, 2, 1, 8}, TH_NORMAL, 5);
    struct th_outputs full = run_fast(&e);
    for (int64_t window = 150; window < 152; window++) {
        e.sight.window = window;
        e.sight.sinks = window - 150;
        struct th_outputs wide = run_fast(&e);
        th_assert_same_bits("window of the whole segment", &full, &wide);
        th_outputs_release(&wide);
    }
    e.sight = (struct sight){.window = 149}; /* one pair less */
    struct th_outputs narrow = run_fast(&e);
    assert_memory_not_equal(full.item[0].data, narrow.item[0].data, (size_t)(190 * 16) * sizeof(float));
    th_outputs_release(&narrow);
    th_outputs_release(&full);
    example_release(&e);
}

static void same_everywhere(const struct shape *shape, const struct sight *sight, enum th_kind kind)
{
    struct example e = example_with(shape, sight, kind, 11);
    char label[160];
    snprintf(label, sizeof label,
             "%lld keys, H %lld, D %lld, window %lld, sinks %lld, slots %lld, %s, combine %d, %s",
             (long long)e.m, (long long)shape->H, (long long)shape->D, (long long)sight->window,
             (long long)sight->sinks, (long long)sight->slots,
             sight->bidirectional ? "bidirectional" : "causal", (int)sight->combine, th_kind_name(kind));
    th_same_bits_everywhere(label, run, &e);
    example_release(&e);
}

/* Window edges at every place of a tile, segments longer and shorter than the window. */
static void test_same_bits_windows(void **state)
{
    (void)state;
    static const int64_t windows[] = {1, 2, 17, 63, 64, 65, 66, 127, 128, 129, 199};
    static const int64_t sinks[] = {0, 4, 64, 0, 70, 1, 0};
    struct shape shape = {2, {200, 30}, {0}, 2, 1, 8};
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (int b = 0; b < 2; b++)
            same_everywhere(&shape,
                            &(struct sight){windows[w], sinks[(w + 3 * (size_t)b) % 7], .bidirectional = b},
                            TH_NORMAL);
    for (int b = 0; b < 2; b++)
        same_everywhere(&(struct shape){1, {400}, {0}, 1, 1, 4}, &(struct sight){70, 3, .bidirectional = b},
                        TH_NORMAL);
    same_everywhere(&shape, &(struct sight){.bidirectional = true}, TH_NORMAL);
}

static void test_same_bits_widths(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 15, 16, 17, 31, 33, 64, 257};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        same_everywhere(&(struct shape){1, {100}, {0}, 2, 2, widths[i]},
                        &(struct sight){20, 2, 3, .combine = (enum hb_attention_combine)(i % 3)}, TH_NORMAL);
}

static void test_same_bits_slots(void **state)
{
    (void)state;
    static const int64_t slots[] = {1, 16, 63, 64, 65, 130, 200};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        for (int c = 0; c < 3; c++)
            same_everywhere(&(struct shape){3, {70, 0, 9}, {0}, 4, 2, 8},
                            &(struct sight){.window = i % 2 ? 33 : 0, .slots = slots[i],
                                .combine = (enum hb_attention_combine)c}, TH_NORMAL);
    /* More segments than a chunk of rule 4 has. */
    struct shape many = {.segments = SEGMENTS_MAX, .H = 2, .G = 1, .D = 4};
    for (int s = 0; s < SEGMENTS_MAX; s++)
        many.queries[s] = 1 + s % 3;
    same_everywhere(&many, &(struct sight){.slots = 2, .combine = HB_GATED}, TH_NORMAL);
    same_everywhere(&(struct shape){0, {0}, {0}, 2, 1, 16}, &(struct sight){.slots = 2,
        .combine = HB_GATED}, TH_NORMAL);
}

/* Fewer queries than keys: generation. */
static void test_same_bits_cache(void **state)
{
    (void)state;
    struct shape one = {4, {1, 1, 1, 1}, {1, 64, 65, 200}, 4, 2, 32},
                 few = {3, {40, 7, 0}, {90, 135, 5}, 2, 1, 24};
    for (int c = 0; c < 3; c++) {
        same_everywhere(&one, &(struct sight){50, 2, 5, false, (enum hb_attention_combine)c, 0}, TH_NORMAL);
        same_everywhere(&few, &(struct sight){70, 66, 5, c == 1, (enum hb_attention_combine)c, 0}, TH_NORMAL);
    }
}

static void test_same_bits_kinds(void **state)
{
    (void)state;
    for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++)
        for (int c = 0; c < 3; c++)
            same_everywhere(&(struct shape){1, {70}, {0}, 2, 1, 20},
                            &(struct sight){30, 2, 5, false, (enum hb_attention_combine)c, 0}, kind);
}

/* What a query does not see may be anything, NaN included; so may keys of a ring that nobody wrote. */
static void test_unseen_keys_do_not_exist(void **state)
{
    (void)state;
    enum { T = 200, D = 16, W = 70, SINKS = 3, BAD = 40 };
    struct example e = example_with(&(struct shape){1, {T}, {0}, 1, 1, D}, &(struct sight){.window = W,
        .sinks = SINKS}, TH_NORMAL, 51);
    struct th_outputs before = run_fast(&e);
    for (int64_t i = BAD * D; i < (BAD + 1) * D; i++)
        e.k[i] = e.v[i] = i % 2 ? NAN : INFINITY;
    struct th_outputs after = run_fast(&e);
    for (int o = 0; o < 3; o++) { /* out, lse, dq */
        int64_t row = o == 1 ? 1 : D;
        const float *was = before.item[o].data, *is = after.item[o].data;
        assert_memory_equal(was, is, (size_t)(BAD * row) * sizeof(float));
        assert_memory_equal(was + (BAD + W) * row, is + (BAD + W) * row,
                            (size_t)((T - BAD - W) * row) * sizeof(float));
        for (int64_t i = BAD; i < BAD + W; i++)
            assert_true(isnan(is[i * row]));
    }
    th_outputs_release(&before);
    th_outputs_release(&after);
    example_release(&e);
}

/* Token by token, or in chunks, through a ring: the bits of the full forward (rule 14). */
static void ring(const struct sight *sight, int32_t T, int32_t chunk)
{
    enum { H = 4, G = 2, D = 24 };
    struct example e = example_with(&(struct shape){1, {T}, {0}, H, G, D}, sight, TH_NORMAL, 41);
    struct th_outputs all = run_fast(&e);
    int64_t R = sight->window + chunk - 1 + sight->sinks, row = G * D;
    float *k = malloc((size_t)(R * row) * sizeof *k), *v = malloc((size_t)(R * row) * sizeof *v);
    assert_true(k && v);
    for (int64_t i = 0; i < R * row; i++)
        k[i] = v[i] = NAN;
    for (int32_t begin = 0; begin < T; begin += chunk) {
        int32_t end = begin + chunk < T ? begin + chunk : T;
        for (int64_t j = begin; j < end; j++) {
            int64_t to = j < sight->sinks ? j : sight->sinks + (j - sight->sinks) % (R - sight->sinks);
            memcpy(k + to * row, e.k + j * row, (size_t)row * sizeof *k);
            memcpy(v + to * row, e.v + j * row, (size_t)row * sizeof *v);
        }
        struct example part = e;
        part.backward = false;
        part.sight.ring = R;
        part.q += begin * H * D;
        part.k = k;
        part.v = v;
        part.n = part.q_begin[1] = end - begin;
        part.m = R;
        part.longest = part.k_begin[1] = end;
        struct th_outputs got = run_fast(&part);
        assert_memory_equal((float *)all.item[0].data + begin * H * D, got.item[0].data,
                            (size_t)(part.n * H * D) * sizeof(float));
        assert_memory_equal((float *)all.item[1].data + begin * H, got.item[1].data,
                            (size_t)(part.n * H) * sizeof(float));
        th_outputs_release(&got);
        if (begin == 2 * chunk)
            th_same_bits_everywhere("ring", run, &part);
    }
    free(k);
    free(v);
    th_outputs_release(&all);
    example_release(&e);
}

static void test_ring(void **state)
{
    (void)state;
    ring(&(struct sight){.window = 20}, 150, 1);
    ring(&(struct sight){.window = 64, .sinks = 4, .slots = 3}, 200, 1);
    ring(&(struct sight){.window = 70, .sinks = 65, .slots = 3, .combine = HB_GATED}, 300, 33);
    ring(&(struct sight){.window = 1, .sinks = 1}, 70, 64);
}

static void test_refused(void **state)
{
    (void)state;
    struct example e = example_with(&(struct shape){1, {9}, {0}, 2, 1, 4},
                                    &(struct sight){3, 1, 2, false, HB_GATED, 0}, TH_NORMAL, 1);
    struct hb_context c;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
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
    REFUSED(HB_EARGUMENT, bad.window = -1);
    REFUSED(HB_EARGUMENT, bad.sinks = -1);
    REFUSED(HB_EARGUMENT, bad.ring = 3);
    REFUSED(HB_ESHAPE, bad.ring = 4);
    REFUSED(HB_EARGUMENT, (bad.ring = 9, bad.bidirectional = true));
    REFUSED(HB_EARGUMENT, (bad.ring = 9, bad.window = 0));
    REFUSED(HB_EARGUMENT, bad.slots_k.data = NULL);
    REFUSED(HB_ESHAPE, bad.slots_k.shape[1] = 2);
    REFUSED(HB_ESHAPE, bad.slots_v.shape[0] = 3);
    REFUSED(HB_EARGUMENT, bad.combine = HB_JOINT);
    REFUSED(HB_EARGUMENT, bad.combine = HB_SUM); /* has a gate */
    REFUSED(HB_EARGUMENT, bad.combine = (enum hb_attention_combine)3);
    REFUSED(HB_EARGUMENT, bad.gate.data = NULL);
    REFUSED(HB_ESHAPE, bad.gate.shape[0] = 1);
    REFUSED(HB_EARGUMENT, bad.rest_out.data = NULL);
    REFUSED(HB_EARGUMENT, bad.slots_out.data = bad.out.data);
    REFUSED(HB_ESHAPE, bad.slots_lse.shape[0] = 8);
#undef REFUSED
#define REFUSED(code, change)                                      \
    do {                                                           \
        worse = b;                                                 \
        change;                                                    \
        assert_int_equal(hb_attention_backward(&c, &worse), code); \
        assert_non_null(strstr(hb_error(), "attention_backward")); \
    } while (0)
    REFUSED(HB_EARGUMENT, worse.dgate.data = NULL);
    REFUSED(HB_EARGUMENT, worse.combine = HB_JOINT);
    REFUSED(HB_ESHAPE, worse.dslots_k.shape[0] = 1);
    REFUSED(HB_EARGUMENT, worse.dslots_k.data = worse.dslots_v.data);
    REFUSED(HB_EARGUMENT, worse.dslots_v.data = worse.slots_v.data);
    REFUSED(HB_ESHAPE, worse.slots_out.shape[0] = 8);
#undef REFUSED
    backward_free(&c, &b);
    forward_free(&c, &f);
    hb_context_close(&c);
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_wide_window_is_none),
        cmocka_unit_test(test_same_bits_windows),
        cmocka_unit_test(test_same_bits_widths),
        cmocka_unit_test(test_same_bits_slots),
        cmocka_unit_test(test_same_bits_cache),
        cmocka_unit_test(test_same_bits_kinds),
        cmocka_unit_test(test_unseen_keys_do_not_exist),
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
