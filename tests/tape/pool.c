/* The pool: buffers come back for the next request of their size, are counted,
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
    memset(buffer->data, 0xa5, bytes);
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

/* A request takes the nearest size that is large enough, and never one that is far too large. */
static void test_best_fit(void **state)
{
    (void)state;
    struct hb_buffer *large = take(1000000), *near = take(110000), *nearer = take(105000),
                     *small = take(99999);
    void *wanted = nearer->data;
    hb_pool_drop(&pool, nearer);
    hb_pool_drop(&pool, large);
    hb_pool_drop(&pool, near);
    hb_pool_drop(&pool, small);
    struct hb_buffer *got = take(100000);
    assert_ptr_equal(got->data, wanted);
    int64_t held = hb_memory_now(HB_MEMORY_GRADIENTS);
    struct hb_buffer *other = take(300000); /* the million is not for this one */
    assert_true(hb_memory_now(HB_MEMORY_GRADIENTS) >= held + 300000);
    hb_pool_drop(&pool, got);
    hb_pool_drop(&pool, other);
}

/* Of small ones, any will do. */
static void test_small(void **state)
{
    (void)state;
    struct hb_buffer *a = take(4000);
    void *memory = a->data;
    hb_pool_drop(&pool, a);
    a = take(10);
    assert_ptr_equal(a->data, memory);
    hb_pool_drop(&pool, a);
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
        TEST(test_reuse),    TEST(test_best_fit),      TEST(test_references),
        TEST(test_counting), TEST(test_out_of_memory), TEST(test_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
