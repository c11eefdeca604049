#include "strict/strict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/select.h"
#include "strict/guard.h"

/* --- life --- */

static void close_strict(struct hb_context *context)
{
    struct hb_strict_state *state = context->state;
    if (!state)
        return;
    hb_context_close(&state->inner);
    hb_arena_release(&state->arena);
    free(state);
    context->state = NULL;
}

static hb_status open_strict(struct hb_context *context)
{
    const struct hb_strict *strict = (const struct hb_strict *)context->backend;
    struct hb_strict_state *state = calloc(1, sizeof *state);
    if (!state)
        return HB_FAIL(HB_EMEMORY, "out of memory for the state of strict");
    context->state = state;
    hb_status status = hb_context_open(strict->inner, context->numerics, context->threads, &state->inner);
    if (status == HB_OK)
        status = hb_arena_init(&state->arena);
    if (status != HB_OK)
        close_strict(context);
    return status;
}

/* --- memory --- */

static hb_status alloc_strict(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                              void **out)
{
    struct hb_strict_state *state = context->state;
    HB_TRY(hb_guard_late(state));
    HB_TRY(hb_arena_open(&state->arena));
    hb_status status = hb_arena_alloc(&state->arena, category, bytes, out);
    hb_status closed = hb_arena_close(&state->arena);
    return status == HB_OK ? closed : status;
}

/* What cannot be returned is kept for the next call. */
static void free_strict(struct hb_context *context, void *memory)
{
    struct hb_strict_state *state = context->state;
    struct hb_arena *arena = &state->arena;
    struct hb_arena_block *block = hb_arena_holds(arena, memory) ? hb_arena_find(arena, memory) : NULL;
    if (!block || hb_arena_rest(arena, block, memory) != block->bytes) {
        snprintf(state->late, sizeof state->late, "strict: free of memory that alloc did not give");
        return;
    }
    if (!block->live) {
        snprintf(state->late, sizeof state->late, "strict: a block of %zu bytes was freed twice",
                 block->bytes);
        return;
    }
    if (hb_arena_open(arena) != HB_OK) {
        snprintf(state->late, sizeof state->late, "%s", hb_error());
        return;
    }
    if (!hb_arena_guarded(arena, block))
        snprintf(state->late, sizeof state->late, "strict: somebody wrote outside a block of %zu bytes",
                 block->bytes);
    hb_arena_free(arena, block);
    if (hb_arena_close(arena) != HB_OK)
        snprintf(state->late, sizeof state->late, "%s", hb_error());
}

static hb_status check_host(const struct hb_arena *arena, const char *call, const void *memory, size_t bytes)
{
    if (bytes && hb_arena_holds(arena, memory))
        return HB_FAIL(HB_EARGUMENT, "strict: %s: the host's side is device memory", call);
    return HB_OK;
}

static hb_status move(struct hb_strict_state *state, void *to, const void *from, size_t bytes)
{
    if (bytes == 0)
        return HB_OK;
    HB_TRY(hb_arena_open(&state->arena));
    memmove(to, from, bytes);
    return hb_arena_close(&state->arena);
}

static hb_status copy_in(struct hb_context *context, void *to, const void *host, size_t bytes)
{
    struct hb_strict_state *state = context->state;
    HB_TRY(hb_guard_late(state));
    HB_TRY(hb_guard_range(&state->arena, "copy_in", "the target", to, bytes));
    HB_TRY(check_host(&state->arena, "copy_in", host, bytes));
    return move(state, to, host, bytes);
}

static hb_status copy_out(struct hb_context *context, void *host, const void *from, size_t bytes)
{
    struct hb_strict_state *state = context->state;
    HB_TRY(hb_guard_late(state));
    HB_TRY(hb_guard_range(&state->arena, "copy_out", "the source", from, bytes));
    HB_TRY(check_host(&state->arena, "copy_out", host, bytes));
    return move(state, host, from, bytes);
}

static hb_status copy(struct hb_context *context, void *to, const void *from, size_t bytes)
{
    struct hb_strict_state *state = context->state;
    HB_TRY(hb_guard_late(state));
    HB_TRY(hb_guard_range(&state->arena, "copy", "the target", to, bytes));
    HB_TRY(hb_guard_range(&state->arena, "copy", "the source", from, bytes));
    return move(state, to, from, bytes);
}

static hb_status zero(struct hb_context *context, void *memory, size_t bytes)
{
    struct hb_strict_state *state = context->state;
    HB_TRY(hb_guard_late(state));
    HB_TRY(hb_guard_range(&state->arena, "zero", "the target", memory, bytes));
    if (bytes == 0)
        return HB_OK;
    HB_TRY(hb_arena_open(&state->arena));
    memset(memory, 0, bytes);
    return hb_arena_close(&state->arena);
}

static hb_status sync_strict(struct hb_context *context)
{
    return hb_guard_late(context->state);
}

/* --- ops --- */

#define GUARDED(op)                                                                              \
    static hb_status guarded_##op(struct hb_context *context, const struct hb_##op##_args *args) \
    {                                                                                            \
        struct hb_strict_state *state = context->state;                                          \
        struct hb_guard guard;                                                                   \
        HB_TRY(hb_guard_before(state, #op, args, &guard));                                       \
        return hb_guard_after(state, &guard, state->inner.backend->op(&state->inner, args));     \
    }
HB_FOR_EACH_OP(GUARDED)

#define ENTRY(op) .op = inner->op ? guarded_##op : NULL,

void hb_strict_init(struct hb_strict *strict, const struct hb_backend *inner)
{
    *strict = (struct hb_strict){
        .backend = {.api_version = HB_BACKEND_API,
                    .name = "strict",
                    .about = "cpu behind a device's memory: finds mistakes between host and device",
                    .storage = inner->storage,
                    .unpooled = true,
                    .open = open_strict,
                    .close = close_strict,
                    .alloc = alloc_strict,
                    .free = free_strict,
                    .copy_in = copy_in,
                    .copy_out = copy_out,
                    .copy = copy,
                    .zero = zero,
                    .sync = sync_strict,
                    HB_FOR_EACH_OP(ENTRY)},
        .inner = inner,
    };
}

hb_status hb_strict_select(const struct hb_backend **out)
{
    static struct hb_strict strict;
    const struct hb_backend *cpu;
    HB_TRY(hb_cpu_select(&cpu));
    if (strict.inner != cpu)
        hb_strict_init(&strict, cpu);
    *out = &strict.backend;
    return HB_OK;
}
