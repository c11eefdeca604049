#include "emulator/device.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/checker.h"

struct hb_emulator {
    struct hb_arena arena;
    struct hb_checker *checker;
    uint64_t schedule;
    bool pools;
    size_t limit, in_use;
    int64_t lost_at; /* the launch that does not come back, from 1; 0: none */
    struct hb_emulator_counts counts;
};

hb_status hb_emulator_create(struct hb_emulator **out)
{
    struct hb_emulator *emulator = calloc(1, sizeof *emulator);
    if (!emulator)
        return HB_FAIL(HB_EMEMORY, "out of memory for an emulated device");
    hb_status status = hb_arena_init(&emulator->arena);
    if (status != HB_OK) {
        free(emulator);
        return status;
    }
    const char *schedule = getenv("HB_EMULATED_SCHEDULE");
    emulator->schedule = schedule ? strtoull(schedule, NULL, 10) : 0;
    const char *memory = getenv("HB_EMULATED_MEMORY"), *lost = getenv("HB_EMULATED_LOST");
    emulator->limit = memory ? strtoull(memory, NULL, 10) : 0;
    emulator->lost_at = lost ? strtoll(lost, NULL, 10) : 0;
    const char *pools = getenv("HB_EMULATED_POOLS");
    emulator->pools = !pools || strcmp(pools, "0") != 0;
    const char *check = getenv("HB_EMULATED_CHECK");
    if (check && strcmp(check, "0") != 0)
        status = hb_emulator_check(emulator);
    if (status != HB_OK)
        hb_emulator_destroy(emulator);
    else
        *out = emulator;
    return status;
}

void hb_emulator_destroy(struct hb_emulator *emulator)
{
    if (!emulator)
        return;
    hb_checker_destroy(emulator->checker);
    hb_arena_release(&emulator->arena);
    free(emulator);
}

void hb_emulator_schedule(struct hb_emulator *emulator, uint64_t schedule)
{
    emulator->schedule = schedule;
}

void hb_emulator_limit(struct hb_emulator *emulator, size_t bytes)
{
    emulator->limit = bytes;
}

bool hb_emulator_has_pools(const struct hb_emulator *emulator)
{
    return emulator->pools;
}

struct hb_emulator_counts hb_emulator_counts(const struct hb_emulator *emulator)
{
    return emulator->counts;
}

/* Whoever asks for anything after its loss hears of it. */
static hb_status present(const struct hb_emulator *emulator)
{
    if (emulator->lost_at && emulator->counts.launches >= emulator->lost_at)
        return HB_FAIL(HB_EINTERNAL, HB_EMULATED "the device was lost at launch %lld; start again from the "
                                                 "last checkpoint",
                       (long long)emulator->lost_at);
    return HB_OK;
}

hb_status hb_device_open(struct hb_emulator *emulator)
{
    emulator->counts.launches++;
    HB_TRY(present(emulator));
    return hb_arena_open(&emulator->arena);
}

hb_status hb_device_close(struct hb_emulator *emulator)
{
    return hb_arena_close(&emulator->arena);
}

bool hb_device_holds(const struct hb_emulator *emulator, const void *memory)
{
    return hb_arena_holds(&emulator->arena, memory);
}

struct hb_checker *hb_device_checker(struct hb_emulator *emulator)
{
    return emulator->checker;
}

hb_status hb_emulator_check(struct hb_emulator *emulator)
{
    return emulator->checker ? HB_OK : hb_checker_create(&emulator->arena, &emulator->checker);
}

uint64_t hb_device_schedule(struct hb_emulator *emulator)
{
    return emulator->schedule;
}

hb_status hb_device_guarded(const struct hb_emulated_launch *launch)
{
    const struct hb_arena *arena = &launch->emulator->arena;
    for (int i = 0; i < launch->pointers; i++) {
        const struct hb_arena_block *block = hb_arena_find(arena, launch->pointer[i]);
        if (block && !hb_arena_guarded(arena, block))
            return HB_FAIL(HB_EINTERNAL,
                           HB_EMULATED "%s wrote outside the memory of its pointer number %d (%zu bytes)",
                           launch->name, i + 1, block->bytes);
    }
    return HB_OK;
}

void hb_device_written(const struct hb_emulated_launch *launch)
{
    const struct hb_arena *arena = &launch->emulator->arena;
    for (int i = 0; i < launch->pointers; i++) {
        const struct hb_arena_block *block = hb_arena_find(arena, launch->pointer[i]);
        if (block)
            hb_checker_written(launch->emulator->checker, hb_arena_memory(arena, block), block->bytes);
    }
}

/* --- memory --- */

hb_status hb_emulator_alloc(struct hb_emulator *emulator, enum hb_memory_category category, size_t bytes,
                            void **out)
{
    HB_TRY(present(emulator));
    if (emulator->limit && (bytes > emulator->limit || emulator->in_use > emulator->limit - bytes))
        return HB_FAIL(HB_EMEMORY,
                       HB_EMULATED
                       "out of device memory: %zu bytes wanted for %s, %zu of %zu are in use; use a "
                       "smaller model or microbatch",
                       bytes, hb_memory_category_name(category), emulator->in_use, emulator->limit);
    HB_TRY(hb_arena_open(&emulator->arena));
    hb_status status = hb_arena_alloc(&emulator->arena, category, bytes, out);
    hb_status closed = hb_arena_close(&emulator->arena);
    HB_TRY(status);
    HB_TRY(closed);
    hb_checker_fresh(emulator->checker, *out, bytes);
    emulator->counts.allocations++;
    emulator->in_use += bytes;
    return HB_OK;
}

hb_status hb_emulator_free(struct hb_emulator *emulator, void *memory)
{
    struct hb_arena *arena = &emulator->arena;
    struct hb_arena_block *block = hb_arena_holds(arena, memory) ? hb_arena_find(arena, memory) : NULL;
    if (!block || hb_arena_rest(arena, block, memory) != block->bytes)
        return HB_FAIL(HB_EARGUMENT, HB_EMULATED "free of memory that alloc did not give");
    if (!block->live)
        return HB_FAIL(HB_EARGUMENT, HB_EMULATED "a block of %zu bytes was freed twice", block->bytes);
    emulator->in_use -= block->bytes;
    HB_TRY(hb_arena_open(arena));
    bool guarded = hb_arena_guarded(arena, block);
    size_t bytes = block->bytes;
    hb_checker_fresh(emulator->checker, memory, bytes);
    hb_arena_free(arena, block);
    HB_TRY(hb_arena_close(arena));
    return guarded ? HB_OK
                   : HB_FAIL(HB_EINTERNAL, HB_EMULATED "somebody wrote outside a block of %zu bytes", bytes);
}

static hb_status check_range(struct hb_emulator *emulator, const char *call, const void *memory, size_t bytes)
{
    const struct hb_arena *arena = &emulator->arena;
    if (!hb_arena_holds(arena, memory))
        return HB_FAIL(HB_EARGUMENT, HB_EMULATED "%s: host memory where device memory belongs", call);
    const struct hb_arena_block *block = hb_arena_find(arena, memory);
    if (!block || !block->live || hb_arena_rest(arena, block, memory) < bytes)
        return HB_FAIL(HB_EARGUMENT,
                       HB_EMULATED "%s: %zu bytes that do not lie in one block of device memory", call,
                       bytes);
    return HB_OK;
}

static hb_status check_host(struct hb_emulator *emulator, const char *call, const void *memory)
{
    if (hb_arena_holds(&emulator->arena, memory))
        return HB_FAIL(HB_EARGUMENT, HB_EMULATED "%s: the host's side is device memory", call);
    return HB_OK;
}

hb_status hb_emulator_copy_in(struct hb_emulator *emulator, void *to, const void *host, size_t bytes)
{
    HB_TRY(present(emulator));
    if (bytes == 0)
        return HB_OK;
    HB_TRY(check_range(emulator, "copy_in", to, bytes));
    HB_TRY(check_host(emulator, "copy_in", host));
    emulator->counts.copies_in++;
    HB_TRY(hb_arena_open(&emulator->arena));
    memcpy(to, host, bytes);
    hb_checker_written(emulator->checker, to, bytes);
    return hb_arena_close(&emulator->arena);
}

hb_status hb_emulator_copy_out(struct hb_emulator *emulator, void *host, const void *from, size_t bytes)
{
    HB_TRY(present(emulator));
    if (bytes == 0)
        return HB_OK;
    HB_TRY(check_range(emulator, "copy_out", from, bytes));
    HB_TRY(check_host(emulator, "copy_out", host));
    emulator->counts.copies_out++;
    HB_TRY(hb_arena_open(&emulator->arena));
    memcpy(host, from, bytes);
    return hb_arena_close(&emulator->arena);
}

hb_status hb_emulator_copy(struct hb_emulator *emulator, void *to, const void *from, size_t bytes)
{
    HB_TRY(present(emulator));
    if (bytes == 0)
        return HB_OK;
    HB_TRY(check_range(emulator, "copy", to, bytes));
    HB_TRY(check_range(emulator, "copy", from, bytes));
    HB_TRY(hb_arena_open(&emulator->arena));
    memmove(to, from, bytes);
    hb_checker_copied(emulator->checker, to, from, bytes);
    return hb_arena_close(&emulator->arena);
}

hb_status hb_emulator_zero(struct hb_emulator *emulator, void *memory, size_t bytes)
{
    HB_TRY(present(emulator));
    if (bytes == 0)
        return HB_OK;
    HB_TRY(check_range(emulator, "zero", memory, bytes));
    HB_TRY(hb_arena_open(&emulator->arena));
    memset(memory, 0, bytes);
    hb_checker_written(emulator->checker, memory, bytes);
    return hb_arena_close(&emulator->arena);
}

hb_status hb_emulator_wait(struct hb_emulator *emulator)
{
    emulator->counts.waits++;
    return present(emulator);
}
