/* The pool: buffers come back for the next request of their rounded size, are counted,
 * and live as long as somebody holds them. */
#include "tape/pool.h"

#include "ops/harness.h"
#include "ref/backend.h"

static struct hb_context context;
static struct hb_pool pool;

static int open_pool(void **state)
{
    (void)state;
    hb_memory_fail_at(0);
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    hb_pool_init(&pool, &context, HB_MEMORY_GRADIENTS);
    return 0;
}

static int close_pool(void **state)
{
    (void)state;
    hb_pool_release(&pool);
    hb_context_close(&context);
    return hb_memory_now(HB_MEMORY_GRADIENTS) == 0 ? 0 : -1;
}

static struct hb_buffer *take(size_t bytes)
{
    struct hb_buffer *buffer;
    TH_OK(hb_pool_take(&pool, bytes, &buffer));
    assert_true(buffer->bytes >= bytes);
    assert_int_equal(buffer->references, 1);
    void *host = calloc(1, bytes + sizeof(float));
    assert_non_null(host);
    int64_t words = (int64_t)(bytes / sizeof(float));
    TH_OK(hb_copy_in(&context, hb_tensor_1d(&context, buffer->data, HB_F32, words), host));
    free(host);
    return buffer;
}

static void test_reuse(void **state)
{
    (void)state;
    struct hb_buffer *a = take(100000), *b = take(100000);
    assert_ptr_not_equal(a->data, b->data);
    void *memory = a->data;
    hb_pool_drop(&pool, a);
    int64_t held = hb_memory_now(HB_MEMORY_GRADIENTS);
    struct hb_buffer *c = take(99000);
    assert_ptr_equal(c->data, memory);
    assert_int_equal(hb_memory_now(HB_MEMORY_GRADIENTS), held);
    hb_pool_drop(&pool, b);
    hb_pool_drop(&pool, c);
}

/* Requests share a buffer if their sizes are rounded to the same, by less than a sixteenth; no other
 * is taken, so a small request never has what a larger one will want. */
static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 256, 257, 4096, 8191, 8193, 100000, 105000, 1000001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct hb_buffer *buffer = take(sizes[i]);
        assert_true(buffer->bytes < sizes[i] + (sizes[i] > 4096 ? sizes[i] / 16 : 256));
        hb_pool_drop(&pool, buffer);
    }
    struct hb_buffer *coarse = take(33 * 256); /* beyond 32 steps they double, so that sizes stay few */
    assert_int_equal(coarse->bytes, 17 * 512);
    hb_pool_drop(&pool, coarse);
    struct hb_buffer *large = take(105000);
    int64_t held = hb_memory_now(HB_MEMORY_GRADIENTS);
    struct hb_buffer *first = take(10), *second = take(200);
    assert_true(first->bytes == 256 && second->bytes == 256); /* the 1's, and one of its own */
    assert_int_equal(hb_memory_now(HB_MEMORY_GRADIENTS), held + 256);
    hb_pool_drop(&pool, large);
    hb_pool_drop(&pool, first);
    hb_pool_drop(&pool, second);
}

/* Whatever is asked for and dropped in a round, in whatever order, the next round of the same finds. */
static void test_rounds(void **state)
{
    (void)state;
    enum { REQUESTS = 200, HELD = 7 };
    int64_t after_first = 0;
    for (int round = 0; round < 3; round++) {
        struct hb_buffer *held[HELD] = {NULL};
        uint64_t random = 1;
        for (int i = 0; i < REQUESTS; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            struct hb_buffer **place = &held[(random >> 33) % HELD];
            hb_pool_drop(&pool, *place);
            *place = take((size_t)1 << (random >> 60) | (random >> 40 & 1023));
        }
        for (int i = 0; i < HELD; i++)
            hb_pool_drop(&pool, held[i]);
        if (round == 0)
            after_first = hb_memory_now(HB_MEMORY_GRADIENTS);
        assert_int_equal(hb_memory_now(HB_MEMORY_GRADIENTS), after_first);
    }
}

static void test_references(void **state)
{
    (void)state;
    struct hb_buffer *a = take(5000);
    assert_ptr_equal(hb_buffer_share(a), a);
    hb_pool_drop(&pool, a);
    assert_true(pool.in_use >= 5000);
    struct hb_buffer *b = take(5000); /* not the one that is still held */
    assert_ptr_not_equal(a->data, b->data);
    hb_pool_drop(&pool, a);
    struct hb_buffer *c = take(5000);
    assert_ptr_equal(c, a);
    hb_pool_drop(&pool, b);
    hb_pool_drop(&pool, c);
    hb_pool_drop(&pool, NULL);
    assert_int_equal(pool.in_use, 0);
}

static void test_counting(void **state)
{
    (void)state;
    struct hb_buffer *a = take(10000), *b = take(20000);
    assert_int_equal(pool.in_use, 30000);
    hb_pool_drop(&pool, a);
    assert_int_equal(pool.in_use, 20000);
    assert_int_equal(pool.in_use_peak, 30000);
    a = take(10000);
    assert_int_equal(pool.in_use, 30000);
    assert_int_equal(pool.in_use_peak, 30000);
    hb_pool_drop(&pool, a);
    hb_pool_drop(&pool, b);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct hb_buffer *buffer = NULL;
    hb_memory_fail_at(1);
    assert_int_equal(hb_pool_take(&pool, 1000, &buffer), HB_EMEMORY);
    assert_null(buffer);
    assert_int_equal(pool.in_use, 0);
    buffer = take(1000);
    hb_pool_drop(&pool, buffer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pool, close_pool)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reuse),    TEST(test_sizes),         TEST(test_references),
        TEST(test_counting), TEST(test_out_of_memory), TEST(test_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
