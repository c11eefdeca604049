#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/bpe.h"
#include "random_text.h"

static void ok(hb_status status)
{
    if (status != HB_OK)
        fail_msg("%s", hb_error());
}

/* Bytes are their own ids, and merge i makes token 256 + i. Later merges join
 * earlier results, so that long tokens come about. */
static size_t draw_merges(uint64_t *seed, int letters, struct hb_bpe_merge *merges, size_t wanted)
{
    size_t count = 0;
    for (int tries = 0; count < wanted && tries < 10000; tries++) {
        uint32_t known = (uint32_t)letters + (uint32_t)count;
        uint32_t side[2];
        for (int i = 0; i < 2; i++) {
            uint32_t k = draw(seed, known);
            side[i] = k < (uint32_t)letters ? 'a' + k : 256 + (k - (uint32_t)letters);
        }
        bool fresh = true;
        for (size_t i = 0; i < count; i++)
            fresh = fresh && !(merges[i].left == side[0] && merges[i].right == side[1]);
        if (fresh) {
            merges[count] = (struct hb_bpe_merge){side[0], side[1], 256 + (uint32_t)count};
            count++;
        }
    }
    return count;
}

/* The definition, word by word: first merge of the list that applies, leftmost place. */
static size_t encode_slowly(const struct hb_bpe_merge *merges, size_t merge_count, const unsigned char *piece,
                            size_t n, uint32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = piece[i];
    for (size_t m = 0; m < merge_count;) {
        size_t at = 0;
        while (at + 1 < n && !(ids[at] == merges[m].left && ids[at + 1] == merges[m].right))
            at++;
        if (at + 1 >= n) {
            m++;
            continue;
        }
        ids[at] = merges[m].result;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
        m = 0; /* a new pair may stand earlier in the list */
    }
    return n;
}

static void init_identity(struct hb_bpe *bpe, const struct hb_bpe_merge *merges, size_t count)
{
    uint32_t byte_id[256];
    for (uint32_t b = 0; b < 256; b++)
        byte_id[b] = b;
    ok(hb_bpe_init(bpe, byte_id, merges, count));
}

/* Lengths on both sides of where the heap takes over from the scan. */
static void test_matches_definition(void **state)
{
    (void)state;
    uint64_t seed = 1;
    struct hb_ids ids = {0};
    for (int round = 0; round < 300; round++) {
        int letters = 1 + (int)draw(&seed, 4);
        struct hb_bpe_merge merges[40];
        size_t count = draw_merges(&seed, letters, merges, 1 + draw(&seed, 40));
        struct hb_bpe bpe;
        init_identity(&bpe, merges, count);
        for (int t = 0; t < 20; t++) {
            unsigned char piece[300];
            uint32_t expected[300];
            size_t n = 1 + draw(&seed, t % 2 ? 300 : 40);
            for (size_t i = 0; i < n; i++)
                piece[i] = (unsigned char)('a' + draw(&seed, (uint32_t)letters));
            size_t wanted = encode_slowly(merges, count, piece, n, expected);
            ids.count = 0;
            ok(hb_bpe_encode(&bpe, piece, n, &ids, NULL));
            assert_int_equal(ids.count, wanted);
            assert_memory_equal(ids.data, expected, wanted * sizeof *expected);
        }
        hb_bpe_release(&bpe);
    }
    hb_ids_release(&ids);
}

/* One letter a million times, and random letters: steps per byte must stay
 * near the logarithm of the length, whatever the length is. */
static void test_long_pieces_are_not_quadratic(void **state)
{
    (void)state;
    struct hb_bpe_merge merges[] = {{'a', 'a', 256}, {256, 256, 257}, {257, 257, 258}, {'b', 'a', 259},
                                    {'a', 'b', 260}, {'b', 'b', 261}, {259, 260, 262}};
    struct hb_bpe bpe;
    init_identity(&bpe, merges, sizeof merges / sizeof *merges);
    size_t n = 1 << 20;
    unsigned char *piece = malloc(n);
    assert_non_null(piece);
    uint64_t seed = 3;
    for (int kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < n; i++)
            piece[i] = kind && draw(&seed, 2) ? 'b' : 'a';
        struct hb_ids ids = {0};
        uint64_t work = 0;
        ok(hb_bpe_encode(&bpe, piece, n, &ids, &work));
        if (kind == 0) {
            assert_int_equal(ids.count, n / 8);
            assert_int_equal(ids.data[0], 258);
        }
        assert_true(work > n / 2);
        assert_true(work < 64 * n);
        hb_ids_release(&ids);
    }
    free(piece);
    hb_bpe_release(&bpe);
}

static void test_refusals(void **state)
{
    (void)state;
    uint32_t byte_id[256] = {0};
    struct hb_bpe bpe;
    struct hb_bpe_merge twice[] = {{1, 2, 3}, {1, 2, 4}};
    assert_int_equal(hb_bpe_init(&bpe, byte_id, twice, 2), HB_EFORMAT);
    struct hb_bpe_merge large[] = {{1, HB_BPE_ID_LIMIT, 3}};
    assert_int_equal(hb_bpe_init(&bpe, byte_id, large, 1), HB_EUNSUPPORTED);
    assert_int_equal(hb_bpe_init(&bpe, byte_id, large, HB_BPE_MERGE_LIMIT), HB_EUNSUPPORTED);
    hb_bpe_release(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_definition),
        cmocka_unit_test(test_long_pieces_are_not_quadratic),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
