/* attention in mixed storage: every tensor with a type of its own, on every
 * backend; what is rounded is what fp32 gives. */
#include "ops/attention_case.h"

#include "ref/backend.h"

/* The tensor with the same values, rounded to another type. */
static void restore(struct hb_context *c, struct hb_tensor *t, enum hb_dtype dtype)
{
    if (!t->home)
        return;
    int64_t n = hb_tensor_count(t);
    double *wide = th_doubles(c, *t);
    float *host = malloc((size_t)n * sizeof *host + 1);
    assert_non_null(host);
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)wide[i];
    struct hb_tensor typed = th_tensor(c, dtype, t->rank, t->shape, host);
    free(host);
    free(wide);
    th_free(c, t);
    *t = typed;
}

/* Type number `which` of a call whose types begin at `turn` and go round. */
static enum hb_dtype type_of(int turn, int which)
{
    static const enum hb_dtype types[] = {HB_BF16, HB_F32, HB_F16};
    return types[(turn / (which % 2 ? 3 : 1) + which) % 3];
}

struct mixed {
    struct example e;
    int turn;
};

static void run_mixed(struct hb_context *c, const void *data, struct th_outputs *out)
{
    const struct mixed *m = data;
    struct hb_attention_forward_args f = forward_args(c, &m->e);
    struct hb_tensor *forward[] = {&f.q,    &f.k,   &f.v,        &f.slots_k,  &f.slots_v,
                                   &f.gate, &f.out, &f.rest_out, &f.slots_out};
    for (int i = 0; i < 9; i++)
        restore(c, forward[i], type_of(m->turn, i));
    TH_OK(hb_attention_forward(c, &f));
    TH_OK(hb_sync(c));
    if (in_two(&m->e.sight)) {
        th_keep(out, c, "slots_out", f.slots_out);
        th_keep(out, c, "rest_out", f.rest_out);
        th_keep(out, c, "slots_lse", f.slots_lse);
    }
    th_keep(out, c, "out", f.out);
    th_keep(out, c, "lse", f.lse);
    if (m->e.backward) {
        struct hb_attention_backward_args b = backward_args(c, &m->e, &f);
        struct hb_tensor *backward[] = {&b.dout, &b.dq, &b.dk, &b.dv};
        for (int i = 0; i < 4; i++)
            restore(c, backward[i], type_of(m->turn + 1, i));
        TH_OK(hb_attention_backward(c, &b));
        TH_OK(hb_sync(c));
        th_keep(out, c, "dq", b.dq);
        th_keep(out, c, "dk", b.dk);
        th_keep(out, c, "dv", b.dv);
        if (m->e.sight.slots > 0)
            th_keep(out, c, "dslots_k", b.dslots_k);
        if (m->e.sight.combine == HB_GATED)
            th_keep(out, c, "dgate", b.dgate);
        backward_free(c, &b);
    }
    forward_free(c, &f);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const struct shape shape = {2, {150, 20}, {0}, 4, 2, 20}, cache = {2, {3, 1}, {130, 66}, 2, 1, 40};
    static const struct sight sights[] = {
        {0}, {.window = 40, .sinks = 3, .slots = 5}, {.window = 70, .slots = 66, .combine = HB_SUM},
        {.slots = 2, .combine = HB_GATED}};
    for (int turn = 0; turn < 9; turn++)
        for (int i = 0; i < 2; i++) {
            struct mixed m = {example_with(i ? &cache : &shape, &sights[(turn + i) % 4], TH_NORMAL, 21),
                              turn};
            char label[64];
            snprintf(label, sizeof label, "types from %d on, sight %d", turn, (turn + i) % 4);
            th_same_bits_everywhere(label, run_mixed, &m);
            example_release(&m.e);
        }
}

static void test_same_bits_kinds(void **state)
{
    (void)state;
    for (enum th_kind kind = 0; kind < TH_KIND_COUNT; kind++)
        for (int turn = 0; turn < 3; turn++) {
            struct mixed m = {example_of(&(struct shape){1, {70}, {0}, 2, 1, 16}, kind, 5), turn};
            th_same_bits_everywhere(th_kind_name(kind), run_mixed, &m);
            example_release(&m.e);
        }
}

/* Backward from rounded inputs is what fp32 backward gives from the same numbers, rounded once. */
static void test_one_rounding(void **state)
{
    (void)state;
    static const enum hb_dtype types[] = {HB_BF16, HB_F16};
    struct example e = example_with(&(struct shape){2, {70, 9}, {0}, 2, 1, 8}, &(struct sight){.window = 20,
        .slots = 3},
                                    TH_NORMAL, 21);
    for (int t = 0; t < 2; t++) {
        struct hb_context c;
        TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &c));
        struct hb_attention_forward_args f = forward_args(&c, &e);
        struct hb_tensor *rounded[] = {&f.q, &f.k, &f.v, &f.slots_k, &f.slots_v};
        for (int i = 0; i < 5; i++) { /* rounded, and fp32 again */
            restore(&c, rounded[i], types[t]);
            restore(&c, rounded[i], HB_F32);
        }
        TH_OK(hb_attention_forward(&c, &f));
        restore(&c, &f.out, types[t]);
        restore(&c, &f.out, HB_F32);
        struct hb_attention_backward_args b = backward_args(&c, &e, &f);
        restore(&c, &b.dout, types[t]);
        restore(&c, &b.dout, HB_F32);
        TH_OK(hb_attention_backward(&c, &b));
        struct hb_attention_backward_args s = b;
        s.dq = th_3d(&c, types[t], e.n, 2, 8, NULL);
        s.dk = th_3d(&c, types[t], e.m, 1, 8, NULL);
        s.dv = th_3d(&c, types[t], e.m, 1, 8, NULL);
        for (int i = 0; i < 5; i++)
            restore(&c, rounded[i], types[t]);
        restore(&c, &f.out, types[t]);
        restore(&c, &b.dout, types[t]);
        s.q = f.q;
        s.k = f.k;
        s.v = f.v;
        s.slots_k = f.slots_k;
        s.slots_v = f.slots_v;
        s.out = f.out;
        s.dout = b.dout;
        TH_OK(hb_attention_backward(&c, &s));
        const struct hb_tensor *exact[] = {&b.dq, &b.dk, &b.dv}, *stored[] = {&s.dq, &s.dk, &s.dv};
        for (int i = 0; i < 3; i++) {
            float *x = th_host(&c, *exact[i]);
            uint16_t *y = th_host(&c, *stored[i]);
            for (int64_t j = 0; j < hb_tensor_count(exact[i]); j++)
                assert_int_equal(y[j], t ? hb_f16_of_f32(x[j]) : hb_bf16_of_f32(x[j]));
            free(x);
            free(y);
        }
        th_free(&c, &s.dq);
        th_free(&c, &s.dk);
        th_free(&c, &s.dv);
        backward_free(&c, &b);
        forward_free(&c, &f);
        hb_context_close(&c);
    }
    example_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_kinds),
        cmocka_unit_test(test_one_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
