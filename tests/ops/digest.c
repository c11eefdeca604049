/* digest: chunk borders, NaN, storage types, bits, refusals. */
#include <math.h>

#include "core/hash.h"
#include "ops/harness.h"
#include "ref/backend.h"

struct digest_case {
    int64_t groups, each;
    int64_t strange; /* where a NaN stands that is not the one of hash.h; -1: nowhere */
};

static int64_t chunks_of(int64_t each)
{
    return (each + HB_CHUNK - 1) / HB_CHUNK;
}

static void run(struct hb_context *context, const void *data, struct th_outputs *out)
{
    const struct digest_case *c = data;
    float *x = th_numbers(TH_NORMAL, 1, c->groups * c->each);
    if (c->strange >= 0)
        x[c->strange] = hb_f32_of_bits(0xffc12345u);
    struct hb_digest_args args = {
        .x = th_2d(context, th_storage(context, 0), c->groups, c->each, x),
        .groups = c->groups,
        .chunk_hash = th_1d(context, HB_I64, c->groups * chunks_of(c->each), NULL),
    };
    TH_OK(hb_digest(context, &args));
    th_keep(out, context, "chunk_hash", args.chunk_hash);
    th_free(context, &args.x);
    th_free(context, &args.chunk_hash);
    free(x);
}

static void test_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 0}, {1, 1}, {3, 33}, {2, 4095}, {3, 4096}, {2, 4097}, {7, 12289}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        th_same_bits_everywhere("digest", run, &(struct digest_case){shapes[s][0], shapes[s][1], -1});
    static const int64_t places[] = {0, 2500, 4095, 4096, 5000, 9999};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        th_same_bits_everywhere("digest of a NaN", run, &(struct digest_case){2, 5000, places[i]});
}

static void hashes(enum hb_dtype dtype, const void *raw, int64_t n, int64_t groups, uint64_t *out)
{
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_digest_args args = {
        .x = th_1d(&context, dtype, n, NULL),
        .groups = groups,
        .chunk_hash = th_1d(&context, HB_I64, groups * chunks_of(n / groups), NULL),
    };
    TH_OK(hb_copy_in(&context, args.x, raw));
    TH_OK(hb_digest(&context, &args));
    TH_OK(hb_copy_out(&context, out, args.chunk_hash));
    th_free(&context, &args.x);
    th_free(&context, &args.chunk_hash);
    hb_context_close(&context);
}

/* Two tensors of 5000: chunks of 4096 and 904 each, from the start of each. */
static void test_borders(void **state)
{
    (void)state;
    float *x = th_numbers(TH_NORMAL, 9, 10000);
    uint64_t hash[4];
    hashes(HB_F32, x, 10000, 2, hash);
    assert_true(hash[0] == hb_hash64(x, 4096 * 4));
    assert_true(hash[1] == hb_hash64(x + 4096, 904 * 4));
    assert_true(hash[2] == hb_hash64(x + 5000, 4096 * 4));
    assert_true(hash[3] == hb_hash64(x + 9096, 904 * 4));
    free(x);
}

static void test_numbers(void **state)
{
    (void)state;
    uint64_t hash, other;
    /* every NaN is one; +0 and -0 are two */
    uint32_t nan[2] = {0x7fc00000, 0x3f800000}, strange[2] = {0xff812345, 0x3f800000};
    hashes(HB_F32, strange, 2, 1, &hash);
    assert_true(hash == hb_hash64(nan, sizeof nan));
    uint32_t plus = 0, minus = 0x80000000u;
    hashes(HB_F32, &plus, 1, 1, &hash);
    hashes(HB_F32, &minus, 1, 1, &other);
    assert_true(hash != other);
    /* 16-bit storage is hashed as the fp32 numbers that it stands for */
    uint16_t bf16[3] = {0x3fc0, 0xc000, 0x0001}, f16[3] = {0x3e00, 0xc000, 0x0001};
    float of_bf16[3] = {1.5f, -2, hb_f32_of_bits(0x00010000)}, of_f16[3] = {1.5f, -2, 0x1p-24f};
    hashes(HB_BF16, bf16, 3, 1, &hash);
    assert_true(hash == hb_hash64(of_bf16, sizeof of_bf16));
    hashes(HB_F16, f16, 3, 1, &hash);
    assert_true(hash == hb_hash64(of_f16, sizeof of_f16));
}

static void test_refused(void **state)
{
    (void)state;
    struct hb_context context;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    struct hb_digest_args good = {
        .x = th_1d(&context, HB_F32, 9000, NULL),
        .groups = 2,
        .chunk_hash = th_1d(&context, HB_I64, 4, NULL),
    };
    struct hb_digest_args args = good;
    args.groups = 7;
    assert_int_equal(hb_digest(&context, &args), HB_ESHAPE);
    args.groups = 0;
    assert_int_equal(hb_digest(&context, &args), HB_ESHAPE);
    args.groups = 1; /* three chunks */
    assert_int_equal(hb_digest(&context, &args), HB_ESHAPE);
    args = good;
    args.chunk_hash.dtype = HB_I32;
    assert_int_equal(hb_digest(&context, &args), HB_ESHAPE);
    args = good;
    args.x.dtype = HB_I64;
    assert_int_equal(hb_digest(&context, &args), HB_ESHAPE);
    args = good;
    args.chunk_hash.home = NULL;
    assert_int_equal(hb_digest(&context, &args), HB_EARGUMENT);
    th_free(&context, &good.x);
    th_free(&context, &good.chunk_hash);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
