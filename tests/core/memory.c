/* Host memory: what is counted, and what is refused before the system kills somebody for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysinfo.h>

#include <cmocka.h>

#include "core/memory.h"

static void test_counts(void **state)
{
    (void)state;
    void *a, *b;
    assert_int_equal(hb_memory_alloc(HB_MEMORY_DATA, 1000, &a), HB_OK);
    assert_int_equal(hb_memory_alloc(HB_MEMORY_DATA, (size_t)8 << 20, &b), HB_OK);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_int_equal(hb_memory_now(HB_MEMORY_DATA), 1000 + (8 << 20));
    hb_memory_free(a);
    hb_memory_free(b);
    hb_memory_free(NULL);
    assert_int_equal(hb_memory_now(HB_MEMORY_DATA), 0);
    assert_int_equal(hb_memory_peak(HB_MEMORY_DATA), 1000 + (8 << 20));
}

/* Blocks that each would fit, but not together: nothing of them is touched. */
static void test_more_than_there_is(void **state)
{
    (void)state;
    enum { BLOCKS = 5 };
    struct sysinfo machine;
    void *blocks[BLOCKS], *small;
    int count = 0;
    hb_status status = HB_OK;
    assert_int_equal(sysinfo(&machine), 0);
    size_t quarter = (machine.totalram + machine.totalswap) / 4 * machine.mem_unit;
    while (status == HB_OK && count < BLOCKS)
        if ((status = hb_memory_alloc(HB_MEMORY_FOLD, quarter + 1, &blocks[count])) == HB_OK)
            count++;
    assert_int_equal(status, HB_EMEMORY);
    assert_non_null(strstr(hb_error(), "for fold"));
    assert_int_equal(hb_memory_now(HB_MEMORY_FOLD), (int64_t)count * (int64_t)(quarter + 1));
    assert_int_equal(hb_memory_alloc(HB_MEMORY_FOLD, SIZE_MAX, &small), HB_EMEMORY);
    assert_non_null(strstr(hb_error(), "of this machine"));
    while (count)
        hb_memory_free(blocks[--count]);
    /* What was refused is not in use. */
    assert_int_equal(hb_memory_alloc(HB_MEMORY_FOLD, quarter + 1, &small), HB_OK);
    hb_memory_free(small);
    assert_int_equal(hb_memory_now(HB_MEMORY_FOLD), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts),
                                       cmocka_unit_test(test_more_than_there_is)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
