/* A GPU in software, for testing kernels where there is none: device memory
 * that the host cannot touch, and launches whose threads are fibers.
 *
 * A launch runs to its end, its blocks one after the other. The threads of a
 * block take turns: each runs until it waits for its block or its warp. In
 * which order is the `schedule`, and a right kernel gives the same bits under
 * every one. What goes wrong (a wild pointer, a barrier that not all threads
 * reach, a write outside of a tensor) fails the launch with one message that
 * names kernel, block, thread and line; the process goes on.
 *
 * One launch at a time in a process: threadIdx and the others are ordinary
 * variables, which a debugger can print. Others wait. */
#ifndef HB_EMULATOR_EMULATOR_H
#define HB_EMULATOR_EMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "core/memory.h"
#include "core/status.h"

/* Limits of the smallest device of the default architectures. */
enum {
    HB_EMULATED_BLOCK = 1024,            /* threads of a block */
    HB_EMULATED_STATIC = 48 << 10,       /* bytes of SHARED of a block */
    HB_EMULATED_SHARED_BYTES = 163 << 10 /* with the dynamic ones */
};

/* --- the device --- */

struct hb_emulator;

/* A device of its own. The schedule is 0, or what HB_EMULATED_SCHEDULE in the
 * environment says. HB_EMULATED_LOST=N: it is lost at its N-th launch, and from then
 * on everything fails (HB_EINTERNAL). HB_EMULATED_POOLS=0: it says of itself that it has
 * no memory pools. HB_EMEMORY. */
HB_MUST_USE hb_status hb_emulator_create(struct hb_emulator **out);
void hb_emulator_destroy(struct hb_emulator *emulator);

/* 0: threads by number, warps in turns. 1: by number, a warp runs ahead as far
 * as it can. From 2 on: in an order made from the number, even in turns, odd
 * running ahead, blocks from the last to the first when odd. */
void hb_emulator_schedule(struct hb_emulator *emulator, uint64_t schedule);

/* Bytes that it has from now on, 0: as many as the host; at first what
 * HB_EMULATED_MEMORY says. */
void hb_emulator_limit(struct hb_emulator *emulator, size_t bytes);

/* From now on every access of kernels that report theirs (emulator/sanitizer.c) is
 * looked at: races, reads of memory that nobody wrote, accesses out of range.
 * What exists already, and what other kernels are given, counts as written.
 * HB_EMULATED_CHECK=1 in the environment does the same. HB_EMEMORY. */
HB_MUST_USE hb_status hb_emulator_check(struct hb_emulator *emulator);

/* Nothing here waits for a free, but a program must know devices where it does. */
bool hb_emulator_has_pools(const struct hb_emulator *emulator);

/* What was asked of it so far. */
struct hb_emulator_counts {
    int64_t allocations, launches, copies_in, copies_out, waits;
};
struct hb_emulator_counts hb_emulator_counts(const struct hb_emulator *emulator);

/* Memory. Fresh and freed memory is NaN bytes; a write outside of a block is found
 * after the launch. HB_EMEMORY names category and bytes. */
HB_MUST_USE hb_status hb_emulator_alloc(struct hb_emulator *emulator, enum hb_memory_category category,
                                        size_t bytes, void **out);
HB_MUST_USE hb_status hb_emulator_free(struct hb_emulator *emulator, void *memory);
HB_MUST_USE hb_status hb_emulator_copy_in(struct hb_emulator *emulator, void *to, const void *host,
                                          size_t bytes);
HB_MUST_USE hb_status hb_emulator_copy_out(struct hb_emulator *emulator, void *host, const void *from,
                                           size_t bytes);
HB_MUST_USE hb_status hb_emulator_copy(struct hb_emulator *emulator, void *to, const void *from,
                                       size_t bytes);
HB_MUST_USE hb_status hb_emulator_zero(struct hb_emulator *emulator, void *memory, size_t bytes);
HB_MUST_USE hb_status hb_emulator_wait(struct hb_emulator *emulator);

/* --- what a kernel reads; emulator/kernel.h gives them CUDA's names --- */

struct hb_index3 {
    unsigned x, y, z;
};

extern struct hb_index3 hb_emulated_thread, hb_emulated_block, hb_emulated_block_size, hb_emulated_grid_size;

/* --- what a kernel calls, from the thread whose turn it is --- */

int hb_emulated_lane(void);
void hb_emulated_barrier(const char *file, int line);
void hb_emulated_warp_barrier(unsigned mask, const char *file, int line);
/* The value of lane `from` of the same warp. */
uint64_t hb_emulated_shuffle(unsigned mask, uint64_t value, int from, const char *file, int line);
/* Bit l: lane l votes other than 0. */
unsigned hb_emulated_ballot(unsigned mask, int vote, const char *file, int line);
/* The shared object declared at `place`, the same for all threads of a block. */
void *hb_emulated_shared(const void *place, const char *name, size_t bytes, const char *file, int line);
void *hb_emulated_dynamic_shared(void);
/* The accesses between begin = 1 and begin = 0 are one atomic operation. */
void hb_emulated_atomic(int begin);
/* A kernel reads or writes; `from` is the place in its code. */
void hb_emulated_access(const void *address, size_t bytes, bool writes, const void *from);

/* --- launches --- */

enum { HB_EMULATED_POINTERS = 24 };

struct hb_emulated_launch {
    struct hb_emulator *emulator;
    const char *name;
    void (*run)(void *call); /* the kernel, for the thread whose turn it is */
    void *call;              /* its arguments, */
    size_t call_bytes;       /* and their size */
    struct hb_index3 grid, block;
    size_t shared; /* dynamic bytes */
    const void *pointer[HB_EMULATED_POINTERS]; /* among its arguments */
    int pointers;
};

/* Runs it to its end. Pointers to host memory are refused: HB_EARGUMENT. A fault is HB_EINTERNAL. */
HB_MUST_USE hb_status hb_emulated_run(const struct hb_emulated_launch *launch);

#ifdef __cplusplus
}
#endif

#endif
