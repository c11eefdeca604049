#include "emulator/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD = 64, POISON = 0xff };
/* A freed block rests until so many others, or so many bytes, were freed after it. */
enum { REST_BLOCKS = 256, REST_BYTES = 64 << 20 };
static const size_t most = (size_t)256 << 30, least = (size_t)64 << 20, huge = (size_t)2 << 20;

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

hb_status hb_arena_init(struct hb_arena *arena)
{
    *arena = (struct hb_arena){0};
    /* Addresses cost nothing; where their number is limited, fewer will do. */
    for (size_t size = most; size >= least; size /= 2) {
        void *base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            continue;
        /* Opening and closing costs by the page; advice only. */
        madvise(base, size, MADV_HUGEPAGE);
        arena->base = base;
        arena->size = size;
        return HB_OK;
    }
    return HB_FAIL(HB_EMEMORY, "device memory: no range of addresses for the arena: %s", strerror(errno));
}

void hb_arena_release(struct hb_arena *arena)
{
    for (int64_t i = 0; i < arena->count; i++)
        if (arena->blocks[i].live)
            hb_memory_count(arena->blocks[i].category, -(int64_t)arena->blocks[i].bytes);
    if (arena->base)
        munmap(arena->base, arena->size);
    free(arena->blocks);
    *arena = (struct hb_arena){0};
}

/* One range, one call: whole huge pages, so that none is split. */
static hb_status protect(struct hb_arena *arena, size_t bytes, int protection)
{
    if (bytes && mprotect(arena->base, bytes, protection) != 0)
        return HB_FAIL(HB_EMEMORY, "device memory: the arena of %zu bytes cannot be %s: %s", bytes,
                       protection == PROT_NONE ? "closed" : "opened", strerror(errno));
    return HB_OK;
}

hb_status hb_arena_open(struct hb_arena *arena)
{
    return protect(arena, round_up(arena->used, huge), PROT_READ | PROT_WRITE);
}

hb_status hb_arena_close(struct hb_arena *arena)
{
    return protect(arena, round_up(arena->used, huge), PROT_NONE);
}

/* --- blocks --- */

char *hb_arena_memory(const struct hb_arena *arena, const struct hb_arena_block *block)
{
    return arena->base + block->begin + GUARD;
}

static bool rested(const struct hb_arena *arena, const struct hb_arena_block *block)
{
    return !block->live && (arena->freed - block->freed > REST_BLOCKS ||
                            arena->freed_bytes - block->freed_bytes > REST_BYTES);
}

static hb_status reserve_record(struct hb_arena *arena)
{
    if (arena->count < arena->capacity)
        return HB_OK;
    int64_t capacity = arena->capacity ? 2 * arena->capacity : 256;
    struct hb_arena_block *grown = realloc(arena->blocks, (size_t)capacity * sizeof *grown);
    if (!grown)
        return HB_FAIL(HB_EMEMORY, "out of memory for the records of device memory");
    arena->blocks = grown;
    arena->capacity = capacity;
    return HB_OK;
}

static void remove_records(struct hb_arena *arena, int64_t first, int64_t count)
{
    memmove(arena->blocks + first, arena->blocks + first + count,
            (size_t)(arena->count - first - count) * sizeof *arena->blocks);
    arena->count -= count;
}

/* First fit among rested blocks, neighbours taken together: index of one that
 * is large enough, or -1. */
static int64_t find_rested(struct hb_arena *arena, size_t size)
{
    for (int64_t i = 0; i < arena->count; i++) {
        struct hb_arena_block *block = &arena->blocks[i];
        int64_t joined = 0;
        if (!rested(arena, block))
            continue;
        while (i + 1 + joined < arena->count && block->end - block->begin < size &&
               rested(arena, block + 1 + joined))
            block->end = block[1 + joined++].end;
        block->bytes = block->end - block->begin - 2 * GUARD;
        remove_records(arena, i + 1, joined);
        if (block->end - block->begin >= size)
            return i;
    }
    return -1;
}

/* Cuts what is not needed off block number i. */
static void split(struct hb_arena *arena, int64_t i, size_t size)
{
    struct hb_arena_block *block = &arena->blocks[i];
    if (block->end - block->begin < size + 2 * GUARD + GUARD)
        return;
    memmove(block + 1, block, (size_t)(arena->count - i) * sizeof *block);
    arena->count++;
    block[1].begin = block->begin + size;
    block[1].bytes = block[1].end - block[1].begin - 2 * GUARD;
    block->end = block->begin + size;
}

static hb_status append(struct hb_arena *arena, size_t size)
{
    if (size > arena->size - arena->used)
        return HB_FAIL(HB_EMEMORY,
                       "device memory: out of addresses: %zu bytes more than %zu of %zu; use a smaller model",
                       size, arena->used, arena->size);
    size_t open = round_up(arena->used, huge), wanted = round_up(arena->used + size, huge);
    if (wanted > open && mprotect(arena->base + open, wanted - open, PROT_READ | PROT_WRITE) != 0)
        return HB_FAIL(HB_EMEMORY, "device memory: %zu bytes more cannot be opened: %s", size,
                       strerror(errno));
    arena->blocks[arena->count++] = (struct hb_arena_block){.begin = arena->used, .end = arena->used + size};
    arena->used += size;
    return HB_OK;
}

hb_status hb_arena_alloc(struct hb_arena *arena, enum hb_memory_category category, size_t bytes, void **out)
{
    if (bytes > arena->size)
        return HB_FAIL(HB_EMEMORY, "out of memory: %zu bytes for %s; use a smaller model or microbatch",
                       bytes, hb_memory_category_name(category));
    HB_TRY(hb_memory_planned_fault(category, bytes));
    size_t size = round_up(bytes, GUARD) + 2 * GUARD;
    HB_TRY(reserve_record(arena));
    int64_t i = find_rested(arena, size);
    if (i < 0) {
        HB_TRY(append(arena, size));
        i = arena->count - 1;
    } else {
        split(arena, i, size);
    }
    struct hb_arena_block *block = &arena->blocks[i];
    block->bytes = bytes;
    block->live = true;
    block->category = category;
    memset(arena->base + block->begin, POISON, block->end - block->begin);
    hb_memory_count(category, (int64_t)bytes);
    *out = hb_arena_memory(arena, block);
    return HB_OK;
}

void hb_arena_free(struct hb_arena *arena, struct hb_arena_block *block)
{
    memset(arena->base + block->begin, POISON, block->end - block->begin);
    hb_memory_count(block->category, -(int64_t)block->bytes);
    block->live = false;
    arena->freed_bytes += block->end - block->begin;
    block->freed = ++arena->freed;
    block->freed_bytes = arena->freed_bytes;
}

/* --- looking --- */

bool hb_arena_holds(const struct hb_arena *arena, const void *memory)
{
    return (uintptr_t)memory - (uintptr_t)arena->base < arena->size;
}

struct hb_arena_block *hb_arena_find(const struct hb_arena *arena, const void *memory)
{
    size_t at = (size_t)((uintptr_t)memory - (uintptr_t)arena->base);
    int64_t low = 0, high = arena->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (arena->blocks[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == arena->count)
        return NULL;
    struct hb_arena_block *block = &arena->blocks[low];
    size_t bytes = block->bytes ? block->bytes : 1;
    return at >= block->begin + GUARD && at < block->begin + GUARD + bytes ? block : NULL;
}

size_t hb_arena_rest(const struct hb_arena *arena, const struct hb_arena_block *block, const void *memory)
{
    return (size_t)(hb_arena_memory(arena, block) + block->bytes - (const char *)memory);
}

static bool poisoned(const char *begin, const char *end)
{
    for (const char *c = begin; c < end; c++)
        if ((unsigned char)*c != POISON)
            return false;
    return true;
}

bool hb_arena_guarded(const struct hb_arena *arena, const struct hb_arena_block *block)
{
    const char *memory = hb_arena_memory(arena, block);
    return poisoned(arena->base + block->begin, memory) &&
           poisoned(memory + block->bytes, arena->base + block->end);
}
