#include "core/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

static _Atomic int64_t now[HB_MEMORY_CATEGORY_COUNT];
static _Atomic int64_t peak[HB_MEMORY_CATEGORY_COUNT];
static _Atomic int64_t countdown;
static _Atomic int64_t held; /* of our own blocks: `now` counts devices as well */

static const char *const names[HB_MEMORY_CATEGORY_COUNT] = {
    [HB_MEMORY_PARAMETERS] = "parameters",       [HB_MEMORY_GRADIENTS] = "gradients",
    [HB_MEMORY_OPTIMIZER] = "optimizer",         [HB_MEMORY_GATHERED] = "gathered",
    [HB_MEMORY_ACTIVATIONS] = "activations",     [HB_MEMORY_FOLD] = "fold",
    [HB_MEMORY_WORKSPACE] = "workspace",         [HB_MEMORY_COMMUNICATION] = "communication",
    [HB_MEMORY_DATA] = "data",
};

/* Stands in front of every block, one cache line so that the block stays aligned. */
struct header {
    size_t bytes;
    void *start;
    enum hb_memory_category category;
};

enum { LINE = 64, PAGE = 4096 };
static const size_t huge = (size_t)2 << 20;

/* Whole pages of a large block may be huge ones. That is advice: a refusal costs speed, not bits. */
static void advise(char *start, size_t bytes)
{
    char *first = start + (PAGE - (uintptr_t)start % PAGE) % PAGE;
    char *end = start + bytes - (uintptr_t)(start + bytes) % PAGE;
    if (bytes >= 32 * PAGE)
        madvise(first, (size_t)(end - first), MADV_HUGEPAGE);
}

void hb_memory_count(enum hb_memory_category category, int64_t bytes)
{
    int64_t total = atomic_fetch_add(&now[category], bytes) + bytes;
    int64_t seen = atomic_load(&peak[category]);
    while (total > seen && !atomic_compare_exchange_weak(&peak[category], &seen, total))
        ;
}

hb_status hb_memory_planned_fault(enum hb_memory_category category, size_t bytes)
{
    if (atomic_load(&countdown) > 0 && atomic_fetch_sub(&countdown, 1) == 1)
        return HB_FAIL(HB_EMEMORY, "out of memory: %zu bytes for %s (planned fault)", bytes, names[category]);
    return HB_OK;
}

/* Systems promise more memory than there is, and kill who then uses it, or somebody else. */
static hb_status reserve(enum hb_memory_category category, size_t bytes)
{
    struct sysinfo machine;
    uint64_t there = SIZE_MAX;
    if (sysinfo(&machine) == 0)
        there = ((uint64_t)machine.totalram + machine.totalswap) * machine.mem_unit;
    int64_t before = atomic_load(&held);
    if (bytes > there || (uint64_t)before > there - bytes)
        return HB_FAIL(HB_EMEMORY,
                       "out of memory: %zu bytes for %s, besides %lld in use, are more than the %llu of this "
                       "machine; use a smaller model or microbatch",
                       bytes, names[category], (long long)before, (unsigned long long)there);
    atomic_fetch_add(&held, (int64_t)bytes);
    return HB_OK;
}

hb_status hb_memory_alloc(enum hb_memory_category category, size_t bytes, void **out)
{
    HB_TRY(hb_memory_planned_fault(category, bytes));
    HB_TRY(reserve(category, bytes));
    size_t alignment = bytes >= 2 * huge ? huge : LINE;
    char *start = NULL;
    if (bytes > SIZE_MAX - alignment - LINE ||
        posix_memalign((void **)&start, alignment, bytes + alignment) != 0) {
        atomic_fetch_sub(&held, (int64_t)bytes);
        return HB_FAIL(HB_EMEMORY, "out of memory: %zu bytes for %s; use a smaller model or microbatch",
                       bytes, names[category]);
    }
    advise(start, bytes + alignment);
    /* The block starts one line in: a whole 2 MiB step would waste memory, and
     * two blocks that start on the same page offset would collide in the cache. */
    char *block = start + LINE;
    struct header header = {bytes, start, category};
    memcpy(block - LINE, &header, sizeof header);
    hb_memory_count(category, (int64_t)bytes);
    *out = block;
    return HB_OK;
}

void hb_memory_free(void *memory)
{
    if (!memory)
        return;
    struct header header;
    memcpy(&header, (char *)memory - LINE, sizeof header);
    hb_memory_count(header.category, -(int64_t)header.bytes);
    atomic_fetch_sub(&held, (int64_t)header.bytes);
    free(header.start);
}

int64_t hb_memory_now(enum hb_memory_category category)
{
    return atomic_load(&now[category]);
}

int64_t hb_memory_peak(enum hb_memory_category category)
{
    return atomic_load(&peak[category]);
}

const char *hb_memory_category_name(enum hb_memory_category category)
{
    return names[category];
}

void hb_memory_fail_at(int64_t n)
{
    atomic_store(&countdown, n);
}
