/* Memory that behaves like a device's: one range of addresses that faults for
 * everybody while it is closed, cut into blocks.
 *
 * Fresh and freed memory is filled with NaN bytes (0xff), and so are 64 bytes
 * before and behind every block; a write there is found when the block is
 * checked. A freed block rests for a while before its memory is given out
 * again, so that its late users can be told what they use. The records of the
 * blocks are ordinary memory. */
#ifndef HB_EMULATOR_ARENA_H
#define HB_EMULATOR_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"

struct hb_arena_block {
    size_t begin, end; /* offsets in the arena, guards included; blocks lie side by side */
    size_t bytes;      /* as asked for; its memory begins one guard behind `begin` */
    bool live;
    enum hb_memory_category category;
    int64_t freed;      /* how many blocks had been freed, */
    size_t freed_bytes; /* and how many bytes, when this one was */
};

struct hb_arena {
    char *base;
    size_t size;                   /* of the range of addresses */
    size_t used;                   /* of it in blocks */
    struct hb_arena_block *blocks; /* ascending, [0, used) without gaps */
    int64_t count, capacity;
    int64_t freed;
    size_t freed_bytes;
};

/* Reserves addresses, closed. HB_EMEMORY. */
HB_MUST_USE hb_status hb_arena_init(struct hb_arena *arena);
void hb_arena_release(struct hb_arena *arena);

/* The memory may be touched between the two. HB_EMEMORY when the system refuses. */
HB_MUST_USE hb_status hb_arena_open(struct hb_arena *arena);
HB_MUST_USE hb_status hb_arena_close(struct hb_arena *arena);

/* Only while it is open. Blocks start on 64 bytes; `bytes` may be 0. */
HB_MUST_USE hb_status hb_arena_alloc(struct hb_arena *arena, enum hb_memory_category category, size_t bytes,
                                     void **out);
void hb_arena_free(struct hb_arena *arena, struct hb_arena_block *block);

bool hb_arena_holds(const struct hb_arena *arena, const void *memory);
/* The block, live or freed, in whose memory the address lies; NULL: none. (The
 * first byte of a block without bytes counts as its memory.) */
struct hb_arena_block *hb_arena_find(const struct hb_arena *arena, const void *memory);
/* Its first byte. */
char *hb_arena_memory(const struct hb_arena *arena, const struct hb_arena_block *block);
/* Bytes from the address to the end of the block's memory. */
size_t hb_arena_rest(const struct hb_arena *arena, const struct hb_arena_block *block, const void *memory);

/* Only while it is open: are the guards of a live block untouched? */
bool hb_arena_guarded(const struct hb_arena *arena, const struct hb_arena_block *block);

#endif
