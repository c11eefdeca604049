#include "emulator/checker.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emulator/device.h"
#include "emulator/place.h"
#include "emulator/shared.h"

enum { CELL_BYTES = 2, WARPS = HB_EMULATED_BLOCK / 32, ATOMIC = 0x8000, KNOWN = 4 };
static const size_t most = (size_t)16 << 30; /* bytes of device memory that can be watched */

/* When: a number that rises with every launch, block and block barrier, and one that rises with the
 * warp's barriers since. */
struct access {
    uint32_t when;
    int32_t from; /* place in the code, from `anchor` */
    uint16_t warp_when;
    uint16_t thread; /* | ATOMIC */
};

struct cell {
    struct access write, early_read, late_read; /* of many reads, two */
    uint32_t valid; /* device memory: 1; shared: `when` of the block that wrote it */
};

/* A block of device memory that was looked up a moment ago. */
struct range {
    const char *begin;
    size_t bytes;
};

struct hb_checker {
    const struct hb_arena *arena;
    struct cell *device; /* mapped, touched where it is used */
    size_t device_bytes; /* of device memory that it covers */
    struct cell *shared;
    size_t shared_bytes;
    uint32_t now, launch_began, block_began;
    uint16_t warp_now[WARPS];
    bool atomic;
    struct range known[KNOWN];
    int oldest;
};

/* Code places are kept as distances from here: 32 bits are enough for one module and its neighbours. */
static const char *anchor;

hb_status hb_checker_create(const struct hb_arena *arena, struct hb_checker **out)
{
    struct hb_checker *checker = calloc(1, sizeof *checker);
    if (!checker)
        return HB_FAIL(HB_EMEMORY, "out of memory for the checker");
    checker->arena = arena;
    checker->now = 1;
    checker->device_bytes = arena->size < most ? arena->size : most;
    checker->shared_bytes = hb_shared_size();
    checker->shared = calloc(checker->shared_bytes / CELL_BYTES, sizeof(struct cell));
    void *cells = mmap(NULL, checker->device_bytes / CELL_BYTES * sizeof(struct cell), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    checker->device = cells == MAP_FAILED ? NULL : cells;
    if (!checker->shared || !checker->device) {
        hb_status status = HB_FAIL(HB_EMEMORY, "out of addresses for the checker: %s", strerror(errno));
        hb_checker_destroy(checker);
        return status;
    }
    hb_checker_written(checker, arena->base, arena->used);
    *out = checker;
    return HB_OK;
}

void hb_checker_destroy(struct hb_checker *checker)
{
    if (!checker)
        return;
    if (checker->device)
        munmap(checker->device, checker->device_bytes / CELL_BYTES * sizeof(struct cell));
    free(checker->shared);
    free(checker);
}

/* --- what the host does --- */

static size_t cell_of(const struct hb_checker *checker, const void *memory)
{
    size_t at = (size_t)((const char *)memory - checker->arena->base);
    return at < checker->device_bytes ? at / CELL_BYTES : checker->device_bytes / CELL_BYTES - 1;
}

static void set_valid(struct hb_checker *checker, const void *memory, size_t bytes, uint32_t valid)
{
    if (!checker || bytes == 0)
        return;
    size_t first = cell_of(checker, memory), last = cell_of(checker, (const char *)memory + bytes - 1);
    memset(checker->device + first, 0, (last - first + 1) * sizeof(struct cell));
    for (size_t i = first; valid && i <= last; i++)
        checker->device[i].valid = valid;
}

void hb_checker_fresh(struct hb_checker *checker, const void *memory, size_t bytes)
{
    set_valid(checker, memory, bytes, 0);
}

void hb_checker_written(struct hb_checker *checker, const void *memory, size_t bytes)
{
    set_valid(checker, memory, bytes, 1);
}

void hb_checker_copied(struct hb_checker *checker, const void *to, const void *from, size_t bytes)
{
    if (checker)
        memmove(checker->device + cell_of(checker, to), checker->device + cell_of(checker, from),
                (bytes + CELL_BYTES - 1) / CELL_BYTES * sizeof(struct cell));
}

/* --- what happens during a launch --- */

void hb_checker_launch(struct hb_checker *checker)
{
    checker->launch_began = ++checker->now;
    checker->atomic = false;
    memset(checker->known, 0, sizeof checker->known);
}

void hb_checker_block(struct hb_checker *checker)
{
    hb_checker_barrier(checker);
    checker->block_began = checker->now;
}

void hb_checker_barrier(struct hb_checker *checker)
{
    checker->now++;
    memset(checker->warp_now, 0, sizeof checker->warp_now);
}

void hb_checker_warp_barrier(struct hb_checker *checker, int warp)
{
    checker->warp_now[warp]++;
}

void hb_checker_atomic(struct hb_checker *checker, bool begin)
{
    checker->atomic = begin;
}

/* --- accesses --- */

struct look {
    struct hb_checker *checker;
    const char *address;
    size_t bytes;
    bool writes;
    const void *from;
    struct access now;
};

static const char *verb(bool writes)
{
    return writes ? "writes" : "reads";
}

/* "as[+132 bytes]" for shared memory, "device memory[+8 of 64 bytes]". */
static char *where_text(const struct hb_checker *checker, const char *address, char text[160])
{
    const struct hb_shared_object *object = hb_shared_find(address);
    const struct hb_arena_block *block =
        hb_arena_holds(checker->arena, address) ? hb_arena_find(checker->arena, address) : NULL;
    if (object)
        snprintf(text, 160, "%s (byte %zu of %zu)", object->name, (size_t)(address - object->data),
                 object->bytes);
    else if (block)
        snprintf(text, 160, "device memory (byte %zu of a block of %zu)",
                 block->bytes - hb_arena_rest(checker->arena, block, address), block->bytes);
    else
        snprintf(text, 160, "%s", hb_shared_holds(address) ? "shared memory" : "device memory");
    return text;
}

static void race(const struct look *look, const struct access *other, bool other_writes)
{
    char here[HB_PLACE_TEXT], there[HB_PLACE_TEXT], where[160], thread[96];
    bool same_block = other->when >= look->checker->block_began;
    hb_emulated_give_up(
        "race: %s %s at %s; %s%s %s it at %s and no barrier stands between", verb(look->writes),
        where_text(look->checker, look->address, where), hb_place_text(look->from, here),
        hb_emulated_thread_text(other->thread & ~ATOMIC, thread), same_block ? "" : " of another block",
        verb(other_writes), hb_place_text(anchor + other->from, there));
}

static void meet(const struct look *look, const struct access *other, bool other_writes)
{
    const struct hb_checker *checker = look->checker;
    if (other->when < checker->launch_began || (other->thread & look->now.thread & ATOMIC))
        return;
    if (other->when >= checker->block_began) {
        int mine = look->now.thread & ~ATOMIC, theirs = other->thread & ~ATOMIC;
        if (other->when < look->now.when || mine == theirs)
            return;
        if (mine / 32 == theirs / 32 && other->warp_when < look->now.warp_when)
            return;
    }
    race(look, other, other_writes);
}

static void look_at_cell(const struct look *look, struct cell *cell, bool shared)
{
    const struct hb_checker *checker = look->checker;
    bool valid = shared ? cell->valid == checker->block_began : cell->valid != 0;
    if (!look->writes && !valid) {
        char here[HB_PLACE_TEXT], where[160];
        hb_emulated_give_up("reads %s at %s, which nobody wrote", where_text(checker, look->address, where),
                            hb_place_text(look->from, here));
    }
    if (shared && !valid) /* what earlier blocks did was to other memory */
        *cell = (struct cell){0};
    meet(look, &cell->write, true);
    if (!look->writes) {
        /* Kept: the first since the barrier, or one of an earlier block; and the last. */
        bool other_block =
            cell->early_read.when >= checker->launch_began && cell->early_read.when < checker->block_began;
        if (!other_block && cell->early_read.when != look->now.when)
            cell->early_read = look->now;
        cell->late_read = look->now;
        return;
    }
    meet(look, &cell->early_read, false);
    meet(look, &cell->late_read, false);
    cell->write = look->now;
    cell->valid = shared ? checker->block_began : 1;
}

static bool in_range(const struct range *range, const char *address, size_t bytes)
{
    return (size_t)(address - range->begin) < range->bytes &&
           range->bytes - (size_t)(address - range->begin) >= bytes;
}

static bool in_device_block(struct hb_checker *checker, const char *address, size_t bytes)
{
    for (int i = 0; i < KNOWN; i++)
        if (in_range(&checker->known[i], address, bytes))
            return true;
    const struct hb_arena_block *block = hb_arena_find(checker->arena, address);
    if (!block || !block->live)
        return false;
    struct range *range = &checker->known[checker->oldest];
    checker->oldest = (checker->oldest + 1) % KNOWN;
    *range =
        (struct range){address + hb_arena_rest(checker->arena, block, address) - block->bytes, block->bytes};
    return in_range(range, address, bytes);
}

static bool in_shared_object(const char *address, size_t bytes)
{
    const struct hb_shared_object *object = hb_shared_find(address);
    return object && object->bytes - (size_t)(address - object->data) >= bytes;
}

/* What lies next to an address that nothing owns, for the message. */
static void out_of_range(const struct look *look, bool shared)
{
    char here[HB_PLACE_TEXT];
    const struct hb_shared_object *object = shared ? hb_shared_before(look->address) : NULL;
    if (object)
        hb_emulated_give_up("out of range: %s %zu bytes at %s, %zu bytes from the start of %s, which has %zu",
                            verb(look->writes), look->bytes, hb_place_text(look->from, here),
                            (size_t)(look->address - object->data), object->name, object->bytes);
    hb_emulated_give_up("out of range: %s %zu bytes of %s at %s where no tensor lies", verb(look->writes),
                        look->bytes, shared ? "shared memory" : "device memory",
                        hb_place_text(look->from, here));
}

void hb_checker_access(struct hb_checker *checker, const void *address, size_t bytes, bool writes,
                       const void *from, int thread)
{
    if (!anchor)
        anchor = from;
    struct look look = {checker, address, bytes, writes, from, {0}};
    look.now =
        (struct access){checker->now, (int32_t)((const char *)from - anchor), checker->warp_now[thread / 32],
                        (uint16_t)(thread | (checker->atomic ? ATOMIC : 0))};
    bool shared = hb_shared_holds(address);
    if (shared ? !in_shared_object(address, bytes) : !in_device_block(checker, address, bytes))
        out_of_range(&look, shared);
    struct cell *cell = shared ? checker->shared + hb_shared_offset(address) / CELL_BYTES
                               : checker->device + cell_of(checker, address);
    size_t cells = ((uintptr_t)address % CELL_BYTES + bytes + CELL_BYTES - 1) / CELL_BYTES;
    for (size_t i = 0; i < cells; i++)
        look_at_cell(&look, cell + i, shared);
}

void hb_checker_foreign(const void *address, size_t bytes, bool writes, const void *from)
{
    char here[HB_PLACE_TEXT];
    hb_emulated_give_up("out of range: %s %zu bytes at %p, which is the host's, at %s", verb(writes), bytes,
                        address, hb_place_text(from, here));
}
