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

static void refused(size_t bytes, const char *part)
{
    void *block;
    assert_int_equal(hb_memory_alloc(HB_MEMORY_FOLD, bytes, &block), HB_EMEMORY);
    if (!strstr(hb_error(), part))
        fail_msg("'%s' does not say '%s'", hb_error(), part);
    assert_int_equal(hb_memory_now(HB_MEMORY_FOLD), 0);
}

/* What is in use and what is asked for must fit together; what was refused or freed is not in use. */
static void test_more_than_there_is(void **state)
{
    (void)state;
    enum { HELD = 8 << 20 };
    struct sysinfo machine;
    void *held;
    assert_int_equal(sysinfo(&machine), 0);
    size_t all = (machine.totalram + machine.totalswap) * machine.mem_unit;
    refused(all + 1, "for fold, besides 0 in use");
    refused(SIZE_MAX, "besides 0 in use");
    assert_int_equal(hb_memory_alloc(HB_MEMORY_DATA, HELD, &held), HB_OK);
    refused(all - HELD + 1, "besides 8388608 in use");
    hb_memory_free(held);
    refused(all + 1, "besides 0 in use");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts),
                                       cmocka_unit_test(test_more_than_there_is)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
