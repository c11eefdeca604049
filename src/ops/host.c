#include "ops/host.h"

#include <string.h>

struct workspace {
    void *memory;
    size_t bytes;
};

hb_status hb_host_open(struct hb_context *context)
{
    void *state;
    HB_TRY(hb_memory_alloc(HB_MEMORY_WORKSPACE, sizeof(struct workspace), &state));
    memset(state, 0, sizeof(struct workspace));
    context->state = state;
    return HB_OK;
}

void hb_host_close(struct hb_context *context)
{
    struct workspace *workspace = context->state;
    if (workspace)
        hb_memory_free(workspace->memory);
    hb_memory_free(workspace);
}

hb_status hb_host_workspace(struct hb_context *context, size_t bytes, void **out)
{
    struct workspace *workspace = context->state;
    if (bytes > workspace->bytes) {
        hb_memory_free(workspace->memory);
        *workspace = (struct workspace){0};
        HB_TRY(hb_memory_alloc(HB_MEMORY_WORKSPACE, bytes, &workspace->memory));
        workspace->bytes = bytes;
    }
    *out = workspace->memory;
    return HB_OK;
}

hb_status hb_host_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                        void **out)
{
    (void)context;
    return hb_memory_alloc(category, bytes, out);
}

void hb_host_free(struct hb_context *context, void *memory)
{
    (void)context;
    hb_memory_free(memory);
}

hb_status hb_host_copy(struct hb_context *context, void *to, const void *from, size_t bytes)
{
    (void)context;
    if (bytes)
        memmove(to, from, bytes);
    return HB_OK;
}

hb_status hb_host_zero(struct hb_context *context, void *memory, size_t bytes)
{
    (void)context;
    if (bytes)
        memset(memory, 0, bytes);
    return HB_OK;
}

hb_status hb_host_sync(struct hb_context *context)
{
    (void)context;
    return HB_OK;
}
