/* The checker: finds races, reads of memory that nobody wrote and accesses out
 * of range, in shared and in device memory, while a kernel runs.
 *
 * Per two bytes a cell remembers the last write and two reads: when, by whom,
 * from where. Two accesses of different threads, one of them a write, are
 * ordered by a barrier of the block between them, or of the warp if they are of
 * one warp; in different blocks of a launch by nothing. Atomics do not race with
 * each other. A shuffle orders nothing. One run in any order finds what happens
 * in another, because the order of turns is not looked at.
 *
 * Not seen: local variables, memcpy as a call; types of one byte share cells. */
#ifndef HB_EMULATOR_CHECKER_H
#define HB_EMULATOR_CHECKER_H

#include <stdbool.h>
#include <stddef.h>

#include "emulator/arena.h"

struct hb_checker;

/* For the memory of one arena, all of it written. HB_EMEMORY. */
HB_MUST_USE hb_status hb_checker_create(const struct hb_arena *arena, struct hb_checker **out);
void hb_checker_destroy(struct hb_checker *checker);

/* What the host does; `checker` may be NULL. */
void hb_checker_fresh(struct hb_checker *checker, const void *memory, size_t bytes);
void hb_checker_written(struct hb_checker *checker, const void *memory, size_t bytes);
void hb_checker_copied(struct hb_checker *checker, const void *to, const void *from, size_t bytes);

/* What happens during a launch. */
void hb_checker_launch(struct hb_checker *checker);
void hb_checker_block(struct hb_checker *checker);
void hb_checker_barrier(struct hb_checker *checker);
void hb_checker_warp_barrier(struct hb_checker *checker, int warp);
void hb_checker_atomic(struct hb_checker *checker, bool begin);

/* An access to shared or device memory; `from`: the code behind it. A fault gives the launch up. */
void hb_checker_access(struct hb_checker *checker, const void *address, size_t bytes, bool writes,
                       const void *from, int thread);
/* An access to memory that is no kernel's: gives the launch up. */
void hb_checker_foreign(const void *address, size_t bytes, bool writes, const void *from);

#endif
