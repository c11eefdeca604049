/* Host memory, counted by category.
 *
 * Blocks are aligned to 64 bytes. From 128 KiB on they ask for huge pages (fresh 4 KiB
 * pages cost 4 times as much to touch, and a product that reads weights no cache holds
 * waits for their addresses, too); from 4 MiB on they begin with one. Every byte is
 * counted under its category, with the peak, so that a run can say what it used. */
#ifndef HB_CORE_MEMORY_H
#define HB_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum hb_memory_category {
    HB_MEMORY_PARAMETERS,
    HB_MEMORY_GRADIENTS,
    HB_MEMORY_OPTIMIZER,
    HB_MEMORY_GATHERED, /* weights of which the rank keeps a shard, while they are whole */
    HB_MEMORY_ACTIVATIONS,
    HB_MEMORY_FOLD, /* gradients that wait for their sibling */
    HB_MEMORY_WORKSPACE,
    HB_MEMORY_COMMUNICATION,
    HB_MEMORY_DATA,
    HB_MEMORY_CATEGORY_COUNT
};

/* Allocates `bytes` (may be 0), uninitialised. HB_EMEMORY names category and bytes; also for more than
 * the machine has, memory and swap, whatever the system would promise. */
HB_MUST_USE hb_status hb_memory_alloc(enum hb_memory_category category, size_t bytes, void **out);
/* Releases what hb_memory_alloc gave; NULL is allowed. */
void hb_memory_free(void *memory);

/* For memory that lives elsewhere (a device): counts it without owning it. */
void hb_memory_count(enum hb_memory_category category, int64_t bytes);

int64_t hb_memory_now(enum hb_memory_category category);
int64_t hb_memory_peak(enum hb_memory_category category);
const char *hb_memory_category_name(enum hb_memory_category category);

/* Tests only: the n-th allocation from now on (1 = the next) fails; 0 = off. Who owns memory
 * that lives elsewhere asks before each allocation whether it is that one. */
void hb_memory_fail_at(int64_t n);
HB_MUST_USE hb_status hb_memory_planned_fault(enum hb_memory_category category, size_t bytes);

#endif
