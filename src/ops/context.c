#include <stdlib.h>
#include <unistd.h>

#include "ops/backend.h"

hb_status hb_context_open(const struct hb_backend *backend, enum hb_numerics numerics, int threads,
                          struct hb_context *out)
{
    if (backend->api_version != HB_BACKEND_API)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "backend %s speaks interface version %u, this library version %d; rebuild it",
                       backend->name, backend->api_version, HB_BACKEND_API);
    if (threads < 0 || threads > 4096)
        return HB_FAIL(HB_EARGUMENT, "threads (%d) must be 0 (all processors) to 4096", threads);
    if (threads == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        threads = online > 0 ? (int)online : 1;
    }
    *out = (struct hb_context){.backend = backend, .numerics = numerics, .threads = threads};
    return backend->open(out);
}

void hb_context_close(struct hb_context *context)
{
    if (context->backend)
        context->backend->close(context);
    *context = (struct hb_context){0};
}

hb_status hb_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes, void **out)
{
    return context->backend->alloc(context, category, bytes, out);
}

void hb_free(struct hb_context *context, void *memory)
{
    if (memory)
        context->backend->free(context, memory);
}

hb_status hb_copy_in(struct hb_context *context, struct hb_tensor to, const void *host)
{
    return context->backend->copy_in(context, to.data, host, hb_tensor_bytes(&to));
}

hb_status hb_copy_out(struct hb_context *context, void *host, struct hb_tensor from)
{
    return context->backend->copy_out(context, host, from.data, hb_tensor_bytes(&from));
}

hb_status hb_copy(struct hb_context *context, struct hb_tensor to, struct hb_tensor from)
{
    return context->backend->copy(context, to.data, from.data, hb_tensor_bytes(&from));
}

hb_status hb_zero(struct hb_context *context, struct hb_tensor t)
{
    return context->backend->zero(context, t.data, hb_tensor_bytes(&t));
}

hb_status hb_sync(struct hb_context *context)
{
    return context->backend->sync(context);
}

enum hb_dtype hb_real_dtype(const struct hb_context *context)
{
    return context->backend->storage == HB_STORAGE(HB_F64) ? HB_F64 : HB_F32;
}

static hb_status allocate_staging(const struct hb_tensor *t, void **staging)
{
    *staging = malloc(hb_tensor_bytes(t) + 1);
    return *staging ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory to convert %zu bytes", hb_tensor_bytes(t));
}

hb_status hb_copy_in_f32(struct hb_context *context, struct hb_tensor to, const float *host)
{
    if (to.dtype == HB_F32)
        return hb_copy_in(context, to, host);
    void *staging;
    HB_TRY(allocate_staging(&to, &staging));
    for (int64_t i = 0; i < hb_tensor_count(&to); i++)
        if (to.dtype == HB_F64)
            ((double *)staging)[i] = (double)host[i];
        else
            ((uint16_t *)staging)[i] = to.dtype == HB_BF16 ? hb_bf16_of_f32(host[i]) : hb_f16_of_f32(host[i]);
    hb_status status = hb_copy_in(context, to, staging);
    free(staging);
    return status;
}

hb_status hb_copy_out_f32(struct hb_context *context, float *host, struct hb_tensor from)
{
    if (from.dtype == HB_F32)
        return hb_copy_out(context, host, from);
    void *staging;
    HB_TRY(allocate_staging(&from, &staging));
    hb_status status = hb_copy_out(context, staging, from);
    for (int64_t i = 0; status == HB_OK && i < hb_tensor_count(&from); i++) {
        if (from.dtype == HB_F64) {
            host[i] = (float)((double *)staging)[i];
        } else {
            uint16_t h = ((uint16_t *)staging)[i];
            host[i] = from.dtype == HB_BF16 ? hb_f32_of_bf16(h) : hb_f32_of_f16(h);
        }
    }
    free(staging);
    return status;
}
