/* The memory functions of backends that live in host memory (ref, cpu), and
 * their workspace: one block that grows and stays. */
#ifndef HB_OPS_HOST_H
#define HB_OPS_HOST_H

#include "ops/backend.h"

hb_status hb_host_open(struct hb_context *context);
void hb_host_close(struct hb_context *context);
hb_status hb_host_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                        void **out);
void hb_host_free(struct hb_context *context, void *memory);
hb_status hb_host_copy(struct hb_context *context, void *to, const void *from, size_t bytes);
hb_status hb_host_zero(struct hb_context *context, void *memory, size_t bytes);
hb_status hb_host_sync(struct hb_context *context);

/* At least `bytes` of workspace, 64-byte aligned, uninitialised, valid until
 * the next call of this function on the context. */
HB_MUST_USE hb_status hb_host_workspace(struct hb_context *context, size_t bytes, void **out);

/* The entries of struct hb_backend that these functions fill. */
#define HB_HOST_MEMORY                                                                                \
    .open = hb_host_open, .close = hb_host_close, .alloc = hb_host_alloc, .free = hb_host_free,       \
    .copy_in = hb_host_copy, .copy_out = hb_host_copy, .copy = hb_host_copy, .zero = hb_host_zero,    \
    .sync = hb_host_sync, .host_memory = true

#endif
