/* Hashes: published values, NaN handling, and the digest against its layout
 * written out byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/dtype.h"
#include "core/hash.h"

static void test_known(void **state)
{
    (void)state;
    assert_true(hb_hash64("", 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(hb_hash64_name("") == UINT64_C(0xef46db3751d8e999));
    assert_true(hb_hash64_name("abc") == UINT64_C(0x44bc2cf5ad770999));
    assert_true(hb_hash64("abc", 3) != hb_hash64("abd", 3));
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i * i % 10007) * 0.25f - 1000.0f;
}

static void test_chunk(void **state)
{
    (void)state;
    static float x[HB_CHUNK], y[HB_CHUNK];
    fill(x, HB_CHUNK);
    assert_true(hb_chunk_hash(x, HB_CHUNK) == hb_hash64(x, sizeof x));
    assert_true(hb_chunk_hash(x, 0) == hb_hash64("", 0));
    x[5] = -0.0f;
    x[6] = hb_f32_of_bits(0xff800000u); /* infinities and signed zeros keep their bits */
    assert_true(hb_chunk_hash(x, 77) == hb_hash64(x, 77 * sizeof *x));

    static const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff923456u, 0x7fffffffu};
    static const size_t places[] = {0, 1, 31, 1000, HB_CHUNK - 1};
    for (size_t p = 0; p < 5; p++) {
        memcpy(y, x, sizeof y);
        uint32_t bits = 0x7fc00000u;
        memcpy(&y[places[p]], &bits, sizeof bits);
        uint64_t expected = hb_hash64(y, sizeof y);
        for (size_t k = 0; k < 5; k++) {
            memcpy(&y[places[p]], &nans[k], sizeof nans[k]);
            assert_true(hb_chunk_hash(y, HB_CHUNK) == expected);
            assert_memory_equal(&y[places[p]], &nans[k], sizeof nans[k]); /* the data stays as it is */
        }
    }
}

static size_t put(unsigned char *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> 8 * i);
    return (size_t)bytes;
}

static void test_digest(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t number, hash;
    } chunks[] = {
        {"model.embed_tokens.weight", 0, UINT64_C(0x0123456789abcdef)},
        {"model.embed_tokens.weight", 1, UINT64_C(0xfedcba9876543210)},
        {"model.norm.weight", 0, 5},
        {"x", UINT64_C(0x100000002), 0},
    };
    unsigned char bytes[1024];
    struct hb_digest digest;
    assert_int_equal(hb_digest_init(&digest, 1), HB_OK);
    size_t size = put(bytes, 1, 4);
    char text[HB_DIGEST_TEXT + 1], expected[HB_DIGEST_TEXT + 1], last[HB_DIGEST_TEXT + 1] = "";
    for (int i = 0; i < 4; i++) {
        size += put(bytes + size, strlen(chunks[i].name), 4);
        memcpy(bytes + size, chunks[i].name, strlen(chunks[i].name));
        size += strlen(chunks[i].name);
        size += put(bytes + size, chunks[i].number, 8);
        size += put(bytes + size, chunks[i].hash, 8);
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
        for (int k = 0; k < 16; k++)
            snprintf(expected + 2 * k, 3, "%02x", canonical.digest[k]);
        hb_digest_add_chunk(&digest, chunks[i].name, chunks[i].number, chunks[i].hash);
        hb_digest_value(&digest, text);
        assert_string_equal(text, expected);
        assert_string_not_equal(text, last);
        memcpy(last, text, sizeof last);
    }
    hb_digest_release(&digest);
    assert_null(digest.state);
    /* Digests of old runs must stay comparable. */
    assert_string_equal(text, "d4f0a94126d6ba68c6ce6bc77397b966");
}

static void test_version(void **state)
{
    (void)state;
    char text[2][HB_DIGEST_TEXT + 1];
    for (uint32_t version = 1; version <= 2; version++) {
        struct hb_digest digest;
        assert_int_equal(hb_digest_init(&digest, version), HB_OK);
        hb_digest_value(&digest, text[version - 1]);
        hb_digest_release(&digest);
    }
    assert_string_not_equal(text[0], text[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_chunk),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
