#include "strict/guard.h"

#include <stdio.h>

#include "core/hash.h"

hb_status hb_guard_late(struct hb_strict_state *state)
{
    if (!state->late[0])
        return HB_OK;
    hb_status status = HB_FAIL(HB_EINTERNAL, "%s", state->late);
    state->late[0] = '\0';
    return status;
}

hb_status hb_guard_range(const struct hb_arena *arena, const char *op, const char *argument,
                         const void *memory, size_t bytes)
{
    if (bytes == 0)
        return HB_OK;
    if (!hb_arena_holds(arena, memory))
        return HB_FAIL(HB_EARGUMENT, "strict: %s: %s is host memory; copy it in first", op, argument);
    const struct hb_arena_block *block = hb_arena_find(arena, memory);
    if (!block)
        return HB_FAIL(HB_EARGUMENT, "strict: %s: %s points between blocks of device memory", op, argument);
    if (!block->live)
        return HB_FAIL(HB_EARGUMENT, "strict: %s: %s is in a block of %zu bytes that was freed", op, argument,
                       block->bytes);
    size_t rest = hb_arena_rest(arena, block, memory);
    if (bytes > rest)
        return HB_FAIL(HB_EARGUMENT,
                       "strict: %s: %s has %zu bytes, of which %zu are behind the end of its block", op,
                       argument, bytes, bytes - rest);
    return HB_OK;
}

static bool overlap(const struct hb_tensor *a, const struct hb_tensor *b)
{
    uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    return a0 < b0 + hb_tensor_bytes(b) && b0 < a0 + hb_tensor_bytes(a);
}

/* Only read, and not the place of an output. */
static bool must_stay(const struct hb_op_entry *op, const void *args, int i)
{
    const struct hb_tensor *input = hb_op_tensor_of(args, &op->tensors[i]);
    if (op->tensors[i].use != HB_READS || !input->data)
        return false;
    for (int j = 0; j < op->tensor_count; j++) {
        const struct hb_tensor *other = hb_op_tensor_of(args, &op->tensors[j]);
        if (op->tensors[j].use != HB_READS && other->data && overlap(input, other))
            return false;
    }
    return true;
}

hb_status hb_guard_before(struct hb_strict_state *state, const char *op, const void *args,
                          struct hb_guard *guard)
{
    HB_TRY(hb_guard_late(state));
    *guard = (struct hb_guard){.op = hb_op_find(op), .args = args};
    for (int i = 0; i < guard->op->tensor_count; i++) {
        const struct hb_tensor *t = hb_op_tensor_of(args, &guard->op->tensors[i]);
        if (t->data)
            HB_TRY(
                hb_guard_range(&state->arena, op, guard->op->tensors[i].name, t->data, hb_tensor_bytes(t)));
    }
    HB_TRY(hb_arena_open(&state->arena));
    for (int i = 0; i < guard->op->tensor_count; i++) {
        const struct hb_tensor *t = hb_op_tensor_of(args, &guard->op->tensors[i]);
        guard->watched[i] = must_stay(guard->op, args, i);
        if (guard->watched[i])
            guard->hash[i] = hb_hash64(t->data, hb_tensor_bytes(t));
    }
    return HB_OK;
}

static hb_status compare(const struct hb_strict_state *state, const struct hb_guard *guard)
{
    for (int i = 0; i < guard->op->tensor_count; i++) {
        const char *name = guard->op->tensors[i].name;
        const struct hb_tensor *t = hb_op_tensor_of(guard->args, &guard->op->tensors[i]);
        if (guard->watched[i] && hb_hash64(t->data, hb_tensor_bytes(t)) != guard->hash[i])
            return HB_FAIL(HB_EINTERNAL, "strict: %s changed its input %s", guard->op->name, name);
        const struct hb_arena_block *block =
            t->data && hb_tensor_bytes(t) ? hb_arena_find(&state->arena, t->data) : NULL;
        if (block && !hb_arena_guarded(&state->arena, block))
            return HB_FAIL(HB_EINTERNAL, "strict: %s wrote outside the memory of %s", guard->op->name, name);
    }
    return HB_OK;
}

hb_status hb_guard_after(struct hb_strict_state *state, const struct hb_guard *guard, hb_status status)
{
    if (status == HB_OK)
        status = compare(state, guard);
    hb_status closed = hb_arena_close(&state->arena);
    return status == HB_OK ? closed : status;
}
