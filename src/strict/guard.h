/* What `strict` does around every call of an op. */
#ifndef HB_STRICT_GUARD_H
#define HB_STRICT_GUARD_H

#include "ops/table.h"
#include "emulator/arena.h"

struct hb_strict_state {
    struct hb_context inner; /* computes */
    struct hb_arena arena;
    char late[240]; /* what went wrong where no status could be returned, "" if nothing did */
};

enum { HB_GUARD_TENSORS_MAX = 24 };

/* What must be the same after the call. */
struct hb_guard {
    const struct hb_op_entry *op;
    const void *args;
    uint64_t hash[HB_GUARD_TENSORS_MAX]; /* of tensors that are only read */
    bool watched[HB_GUARD_TENSORS_MAX];
};

/* Returns what went wrong in an earlier free. */
HB_MUST_USE hb_status hb_guard_late(struct hb_strict_state *state);

/* Checks that [memory, memory + bytes) is live device memory. */
HB_MUST_USE hb_status hb_guard_range(const struct hb_arena *arena, const char *op, const char *argument,
                                     const void *memory, size_t bytes);

/* Checks the tensors of a call, opens the arena and takes the hashes. */
HB_MUST_USE hb_status hb_guard_before(struct hb_strict_state *state, const char *op, const void *args,
                                      struct hb_guard *guard);
/* Compares, closes the arena. `status` is that of the call, and comes first. */
HB_MUST_USE hb_status hb_guard_after(struct hb_strict_state *state, const struct hb_guard *guard,
                                     hb_status status);

#endif
