/* Life and memory of the backends cuda and cuda-emulated. */
#include "gpu/memory.h"

#include <stdio.h>
#include <stdlib.h>

#include "gpu/device.h"
#include "gpu/gpu.h"

struct gpu_state {
    struct gpu_device *device;
    void *workspace;
    size_t workspace_bytes;
    void *library; /* of numerics: fast, see gpu.h */
    void (*close_library)(void *library);
    char late[240]; /* what went wrong where no status could be returned, "" if nothing did */
};

/* Some of it depends a little on the data (documents of a microbatch) and must not grow it again. */
static const size_t WORKSPACE_UNIT = (size_t)1 << 20;

static struct gpu_state *state_of(const struct hb_context *context)
{
    return static_cast<struct gpu_state *>(context->state);
}

/* Returns what went wrong in an earlier free. */
static hb_status late(struct gpu_state *state)
{
    if (!state->late[0])
        return HB_OK;
    hb_status status = HB_FAIL(HB_EINTERNAL, "%s", state->late);
    state->late[0] = '\0';
    return status;
}

hb_status HB_GPU(open)(struct hb_context *context)
{
    struct gpu_state *state = static_cast<struct gpu_state *>(calloc(1, sizeof *state));
    if (!state)
        return HB_FAIL(HB_EMEMORY, HB_GPU_NAME ": out of host memory for its state");
    hb_status status = HB_GPU(device_open)(&state->device);
    if (status != HB_OK) {
        free(state);
        return status;
    }
    context->state = state;
    return HB_OK;
}

void HB_GPU(close)(struct hb_context *context)
{
    struct gpu_state *state = state_of(context);
    if (!state)
        return;
    if (state->close_library)
        state->close_library(state->library);
    if (state->workspace)
        HB_GPU(free)(context, state->workspace);
    HB_GPU(device_close)(state->device);
    free(state);
    context->state = NULL;
}

hb_status HB_GPU(alloc)(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                        void **out)
{
    HB_TRY(late(state_of(context)));
    return HB_GPU(device_alloc)(state_of(context)->device, category, bytes, out);
}

void HB_GPU(free)(struct hb_context *context, void *memory)
{
    struct gpu_state *state = state_of(context);
    if (HB_GPU(device_free)(state->device, memory) != HB_OK && !state->late[0])
        snprintf(state->late, sizeof state->late, "%s", hb_error());
}

hb_status HB_GPU(copy_in)(struct hb_context *context, void *to, const void *host, size_t bytes)
{
    HB_TRY(late(state_of(context)));
    return HB_GPU(device_copy_in)(state_of(context)->device, to, host, bytes);
}

hb_status HB_GPU(copy_out)(struct hb_context *context, void *host, const void *from, size_t bytes)
{
    HB_TRY(late(state_of(context)));
    return HB_GPU(device_copy_out)(state_of(context)->device, host, from, bytes);
}

hb_status HB_GPU(copy)(struct hb_context *context, void *to, const void *from, size_t bytes)
{
    return HB_GPU(device_copy)(state_of(context)->device, to, from, bytes);
}

hb_status HB_GPU(zero)(struct hb_context *context, void *memory, size_t bytes)
{
    return HB_GPU(device_zero)(state_of(context)->device, memory, bytes);
}

hb_status HB_GPU(sync)(struct hb_context *context)
{
    HB_TRY(late(state_of(context)));
    return HB_GPU(device_wait)(state_of(context)->device);
}

gpu_stream HB_GPU(stream)(struct hb_context *context)
{
    return HB_GPU(device_stream)(state_of(context)->device);
}

struct gpu_device *HB_GPU(device)(struct hb_context *context)
{
    return state_of(context)->device;
}

bool HB_GPU(is_fast)(const struct hb_context *context)
{
    return context->numerics == HB_FAST;
}

int HB_GPU(multiprocessors)(const struct hb_context *context)
{
    return HB_GPU(device_multiprocessors)(state_of(context)->device);
}

/* The old block is freed in the order of the queue, behind the work that still uses it. */
hb_status HB_GPU(workspace)(struct hb_context *context, size_t bytes, void **out)
{
    struct gpu_state *state = state_of(context);
    if (bytes > state->workspace_bytes) {
        bytes = (bytes / WORKSPACE_UNIT + 1) * WORKSPACE_UNIT;
        if (state->workspace)
            HB_GPU(free)(context, state->workspace);
        state->workspace = NULL;
        state->workspace_bytes = 0;
        HB_TRY(HB_GPU(alloc)(context, HB_MEMORY_WORKSPACE, bytes, &state->workspace));
        state->workspace_bytes = bytes;
    }
    *out = state->workspace;
    return HB_OK;
}

void **HB_GPU(library)(struct hb_context *context, void (*close)(void *library))
{
    struct gpu_state *state = state_of(context);
    state->close_library = close;
    return &state->library;
}
