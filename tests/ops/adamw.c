/* adamw: a step by hand, bits, a bound against double, the digest, skipped steps, refusals. */
#include <math.h>

#include "core/hash.h"
#include "core/philox.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct adamw_case {
    int64_t groups, each;
    enum th_kind kind; /* of the gradient */
    int32_t found;
    bool digest;
    float poison; /* put into the parameters unless 0 */
};

static struct hb_adamw_args make(struct hb_context *context, const struct adamw_case *c)
{
    int64_t n = c->groups * c->each, chunks = (c->each + HB_CHUNK - 1) / HB_CHUNK;
    enum hb_dtype real = th_real(context);
    float *param = th_numbers(TH_NORMAL, 1, n), *grad = th_numbers(c->kind, 2, n), coef = 0.71f;
    float *m = th_numbers(c->kind, 3, n), *v = th_numbers(TH_SAME_SIGN, 4, n);
    for (int64_t i = 0; i < n; i++)
        v[i] = c->kind == TH_DENORMAL ? v[i] * 1e-42f : v[i] * v[i];
    if (c->poison != 0)
        param[n / 2] = c->poison;
    struct hb_adamw_args args = {
        .param = th_2d(context, real, c->groups, c->each, param),
        .grad = th_1d(context, th_storage(context, 0), n, grad),
        .m = th_1d(context, real, n, m),
        .v = th_1d(context, real, n, v),
        .coef = th_1d(context, real, 1, &coef),
        .found = th_1d(context, HB_I32, 1, &c->found),
        .inv_scale = 0x1p-3f,
        .keep = 0.99997f,
        .beta1 = 0.9f,
        .one_minus_beta1 = 0.1f,
        .beta2 = 0.95f,
        .one_minus_beta2 = 0.05f,
        .step_size = 0.003f,
        .root2 = 0.37f,
        .eps = 1e-8f,
        .groups = c->groups,
    };
    if (c->digest)
        args.chunk_hash = th_1d(context, HB_I64, c->groups * chunks, NULL);
    free(param);
    free(grad);
    free(m);
    free(v);
    return args;
}

static void release(struct hb_context *context, struct hb_adamw_args *args)
{
    th_free(context, &args->param);
    th_free(context, &args->grad);
    th_free(context, &args->m);
    th_free(context, &args->v);
    th_free(context, &args->coef);
    th_free(context, &args->found);
    th_free(context, &args->chunk_hash);
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct adamw_case *c = data;
    struct hb_adamw_args args = make(context, c);
    TH_OK(hb_adamw(context, &args));
    th_keep(out, context, "param", args.param);
    th_keep(out, context, "m", args.m);
    th_keep(out, context, "v", args.v);
    if (c->digest)
        th_keep(out, context, "chunk_hash", args.chunk_hash);
    release(context, &args);
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 0},    {1, 1},    {3, 31},   {2, 32},   {1, 255},  {1, 257},
                                        {1, 4095}, {2, 4096}, {3, 4097}, {2, 8191}, {2, 20001}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        th_same_bits_everywhere(
            "adamw", run, &(struct adamw_case){shapes[s][0], shapes[s][1], TH_NORMAL, 0, s % 4 != 1, 0});
    for (int kind = 0; kind < TH_KIND_COUNT; kind++)
        th_same_bits_everywhere("adamw of a kind", run,
                                &(struct adamw_case){2, 700, (enum th_kind)kind, 0, true, 0});
    th_same_bits_everywhere("adamw, NaN", run, &(struct adamw_case){1, 5000, TH_NORMAL, 0, true, NAN});
    th_same_bits_everywhere("adamw, infinity", run,
                            &(struct adamw_case){1, 5000, TH_NORMAL, 0, true, INFINITY});
    th_same_bits_everywhere("adamw, skipped", run, &(struct adamw_case){2, 5000, TH_NORMAL, 1, true, 0});
}

/* Weights in 16 bits, of their own or as a copy of masters. */
struct storage_case {
    struct adamw_case shape;
    enum hb_dtype dtype;
    bool masters, random;
    int64_t first;
};

static const int64_t round_key = INT64_C(-0x123456789abcdef);

static void run_storage(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct storage_case *c = data;
    struct hb_adamw_args args = make(context, &c->shape);
    int64_t G = c->shape.groups, each = c->shape.each, names[8];
    float *param = th_numbers(TH_NORMAL, 1, G * each);
    for (int64_t g = 0; g < G; g++)
        names[g] = 1000 - g;
    struct hb_tensor weights = th_2d(context, c->dtype, G, each, c->masters ? NULL : param);
    args.first = c->first;
    args.key = round_key;
    if (c->masters) {
        args.stored = weights;
    } else {
        th_free(context, &args.param);
        args.param = weights;
    }
    if (c->random)
        args.names = th_1d(context, HB_I64, G, names);
    TH_OK(hb_adamw(context, &args));
    th_keep(out, context, "param", args.param);
    th_keep(out, context, "m", args.m);
    if (c->masters)
        th_keep(out, context, "stored", args.stored);
    if (c->shape.digest)
        th_keep(out, context, "chunk_hash", args.chunk_hash);
    th_free(context, &args.names);
    th_free(context, &args.stored);
    release(context, &args);
    free(param);
}

static void test_storage_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {3, 31}, {2, 4097}, {2, 20001}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int i = 0; i < 6; i++) {
            float poison = i % 2 && shapes[s][1] > 4000 ? NAN : 0;
            struct storage_case c = {.shape = {shapes[s][0], shapes[s][1], TH_NORMAL, 0, i != 2, poison},
                                     .dtype = i % 2 ? HB_F16 : HB_BF16,
                                     .masters = i / 2 == 0,
                                     .random = i / 2 == 2,
                                     .first = i == 5 ? 3 * HB_CHUNK : 0};
            th_same_bits_everywhere("adamw in 16 bits", run_storage, &c);
        }
}

/* Masters take the step of fp32 to the bit, and stored is their rounding. */
static void test_masters(void **state)
{
    (void)state;
    struct hb_context context;
    struct storage_case c = {.shape = {2, 5000, TH_NORMAL, 0, true, 0}, .dtype = HB_F16, .masters = true};
    struct th_outputs plain = {0}, masters = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, &c.shape, &plain);
    run_storage(&context, &c, &masters);
    hb_context_close(&context);
    assert_memory_equal(plain.item[0].data, masters.item[0].data, 10000 * sizeof(float));
    assert_memory_equal(plain.item[3].data, masters.item[3].data, 4 * sizeof(int64_t));
    for (int i = 0; i < 10000; i++)
        assert_int_equal(((uint16_t *)masters.item[2].data)[i],
                         hb_f16_of_f32(((float *)masters.item[0].data)[i]));
    th_outputs_release(&plain);
    th_outputs_release(&masters);
}

/* Without masters the step is that of the widened weights, rounded by the words that the header
 * names: a shard (first) takes the words of its place in the whole tensor. */
static void test_random_words(void **state)
{
    (void)state;
    enum { EACH = 2 * HB_CHUNK + 100 };
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    float *values = th_numbers(TH_NORMAL, 1, EACH);
    for (int i = 0; i < EACH; i++)
        values[i] = hb_f32_of_bf16(hb_bf16_of_f32(values[i]));
    struct adamw_case shape = {1, EACH, TH_NORMAL, 0, false, 0};
    struct hb_adamw_args wide = make(&context, &shape), narrow = make(&context, &shape);
    TH_OK(hb_copy_in(&context, wide.param, values));
    TH_OK(hb_adamw(&context, &wide));
    th_free(&context, &narrow.param);
    int64_t name = 77;
    narrow.param = th_1d(&context, HB_BF16, EACH, values);
    narrow.names = th_1d(&context, HB_I64, 1, &name);
    narrow.key = round_key;
    narrow.first = 5 * HB_CHUNK;
    TH_OK(hb_adamw(&context, &narrow));
    struct hb_random stream = {{(uint32_t)round_key, (uint32_t)((uint64_t)round_key >> 32)}, 77};
    float *exact = th_host(&context, wide.param);
    uint16_t *rounded = th_host(&context, narrow.param);
    int up = 0;
    for (int i = 0; i < EACH; i++) {
        uint32_t words[4];
        float x = exact[i];
        hb_random_u32x4(&stream, (uint64_t)(5 * HB_CHUNK + i) / 4, words);
        uint16_t expected = hb_bf16_of_f32_random(x, words[i % 4]);
        assert_int_equal(rounded[i], expected);
        up += expected != hb_bf16_of_f32(x);
    }
    free(exact);
    free(rounded);
    assert_true(up > EACH / 8); /* about a quarter goes to the farther neighbour */
    th_free(&context, &narrow.names);
    release(&context, &wide);
    release(&context, &narrow);
    free(values);
    hb_context_close(&context);
}

/* g = (8 / 2) / 2 = 2; m = 0/2 + 2/2 = 1; v = (2/4) 2 = 1; direction = 1 / (1 / 0.5 + 0) = 1/2;
 * param = 1/2 - 1/4 * 1/2 = 3/8. */
static void test_by_hand(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct adamw_case c = {1, 1, TH_NORMAL, 0, false, 0};
    struct hb_adamw_args args = make(&context, &c);
    TH_OK(hb_copy_in(&context, args.param, &(float){1}));
    TH_OK(hb_copy_in(&context, args.grad, &(float){8}));
    TH_OK(hb_copy_in(&context, args.m, &(float){0}));
    TH_OK(hb_copy_in(&context, args.v, &(float){0}));
    TH_OK(hb_copy_in(&context, args.coef, &(float){0.5f}));
    args.inv_scale = 0.5f;
    args.keep = 0.5f;
    args.beta1 = args.one_minus_beta1 = 0.5f;
    args.beta2 = 0.75f;
    args.one_minus_beta2 = 0.25f;
    args.step_size = 0.25f;
    args.root2 = 0.5f;
    args.eps = 0;
    TH_OK(hb_adamw(&context, &args));
    float param, m, v;
    TH_OK(hb_copy_out(&context, &param, args.param));
    TH_OK(hb_copy_out(&context, &m, args.m));
    TH_OK(hb_copy_out(&context, &v, args.v));
    assert_true(m == 1 && v == 1 && param == 0.375f);
    release(&context, &args);
    hb_context_close(&context);
}

/* Against the textbook in double. With u = 2^-24: g has 2 roundings; the new terms of m and v have
 * 1 and 2 more and the old ones none; the denominator inherits half of v's relative error and adds
 * 3 roundings (root, division, sum), the direction 1; the last line rounds param keep and the result. */
static void test_within_bound(void **state)
{
    (void)state;
    enum { n = 20000 };
    const double u = 1.001 * 0x1p-24;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct adamw_case c = {1, n, TH_NORMAL, 0, false, 0};
    struct hb_adamw_args a = make(&context, &c);
    double *p0 = th_doubles(&context, a.param), *grad = th_doubles(&context, a.grad);
    double *m0 = th_doubles(&context, a.m), *v0 = th_doubles(&context, a.v);
    double *coef = th_doubles(&context, a.coef);
    TH_OK(hb_adamw(&context, &a));
    double *p1 = th_doubles(&context, a.param), *m1 = th_doubles(&context, a.m);
    double *v1 = th_doubles(&context, a.v);
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double g = grad[i] * (double)a.inv_scale * *coef;
        double old_m = (double)a.beta1 * m0[i], new_m = (double)a.one_minus_beta1 * g, m = old_m + new_m;
        double old_v = (double)a.beta2 * v0[i], new_v = (double)a.one_minus_beta2 * g * g, v = old_v + new_v;
        double root = sqrt(v) / (double)a.root2, denominator = root + (double)a.eps;
        double p = p0[i] * (double)a.keep - (double)a.step_size * m / denominator;
        double of_m = u * (fabs(m) + 3 * fabs(new_m));
        double of_v = u * (v + 6 * new_v);
        double relative = of_v / (2 * v) + 3 * u;
        double of_direction = (of_m + fabs(m) * (relative + u)) / denominator;
        double bound = u * (fabs(p) + fabs(p0[i] * (double)a.keep)) + (double)a.step_size * of_direction;
        if (!(fabs(m1[i] - m) <= of_m && fabs(v1[i] - v) <= of_v && fabs(p1[i] - p) <= bound))
            fail_msg("element %d: m %g, v %g, param %g of their bounds", i, fabs(m1[i] - m) / of_m,
                     fabs(v1[i] - v) / of_v, fabs(p1[i] - p) / bound);
        worst = fmax(worst, fabs(p1[i] - p) / bound);
    }
    assert_true(worst > 0.3); /* the bound is tight enough to mean something */
    free(p0);
    free(grad);
    free(m0);
    free(v0);
    free(coef);
    free(p1);
    free(m1);
    free(v1);
    release(&context, &a);
    hb_context_close(&context);
}

/* Chunks are counted from the start of each logical tensor. */
static void test_chunk_hashes(void **state)
{
    (void)state;
    enum { G = 3, EACH = 9000, CHUNKS = 3 };
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct adamw_case c = {G, EACH, TH_NORMAL, 0, true, 0};
    struct hb_adamw_args args = make(&context, &c);
    TH_OK(hb_adamw(&context, &args));
    float *param = malloc(G * EACH * sizeof *param);
    uint64_t hash[G * CHUNKS];
    assert_non_null(param);
    TH_OK(hb_copy_out(&context, param, args.param));
    TH_OK(hb_copy_out(&context, hash, args.chunk_hash));
    for (int g = 0; g < G; g++)
        for (int i = 0; i < CHUNKS; i++) {
            size_t count = i < 2 ? 4096 : EACH - 8192;
            assert_true(hash[g * CHUNKS + i] ==
                        hb_hash64(param + g * EACH + 4096 * i, count * sizeof *param));
        }
    free(param);
    release(&context, &args);
    hb_context_close(&context);
}

static void test_skipped_step_changes_nothing(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct adamw_case c = {1, 5000, TH_NORMAL, 1, true, 0};
    struct hb_adamw_args args = make(&context, &c);
    TH_OK(hb_copy_in(&context, args.coef, &(float){NAN}));
    struct hb_tensor watched[] = {args.param, args.m, args.v, args.chunk_hash};
    struct th_outputs before = {0}, after = {0};
    for (int i = 0; i < 4; i++)
        th_keep(&before, &context, "tensor", watched[i]);
    TH_OK(hb_adamw(&context, &args));
    for (int i = 0; i < 4; i++)
        th_keep(&after, &context, "tensor", watched[i]);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(before.item[i].data, after.item[i].data, hb_tensor_bytes(&watched[i]));
    th_outputs_release(&before);
    th_outputs_release(&after);
    release(&context, &args);
    hb_context_close(&context);
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct adamw_case c = {2, 5000, TH_NORMAL, 0, true, 0};
    struct hb_adamw_args good = make(&context, &c), args = good;
    args.grad.shape[0] = 9999;
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args = good;
    args.groups = 3;
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args.groups = 0;
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args = good;
    args.groups = 1; /* needs 3 hashes, has 4 */
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args = good;
    args.m = args.v;
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args = good;
    args.grad = hb_tensor_as_2d(args.param, 1, 10000);
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args = good;
    args.v.dtype = HB_BF16;
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args = good;
    args.found.dtype = HB_I64;
    assert_int_equal(hb_adamw(&context, &args), HB_ESHAPE);
    args = good;
    args.coef.home = NULL;
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args = good;
    args.first = 100;
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args = good;
    args.names = args.chunk_hash; /* fp32 is not rounded */
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args = good;
    args.stored = args.param;
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    args.param.dtype = HB_F16; /* a copy of what is no master */
    assert_int_equal(hb_adamw(&context, &args), HB_EARGUMENT);
    release(&context, &good);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_storage_bits),
        cmocka_unit_test(test_masters),
        cmocka_unit_test(test_random_words),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_within_bound),
        cmocka_unit_test(test_chunk_hashes),
        cmocka_unit_test(test_skipped_step_changes_nothing),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
