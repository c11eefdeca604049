/* Functions of struct hb_backend that are no ops, and its two tables. */
#ifndef HB_GPU_MEMORY_H
#define HB_GPU_MEMORY_H

#ifdef __cplusplus
extern "C" {
#endif

#include "emulator/emulator.h"
#include "ops/backend.h"
#include "ops/table.h"

#define HB_GPU_MEMORY(prefix)                                                                               \
    hb_status prefix##_open(struct hb_context *context);                                                    \
    void prefix##_close(struct hb_context *context);                                                        \
    hb_status prefix##_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,    \
                             void **out);                                                                   \
    void prefix##_free(struct hb_context *context, void *memory);                                           \
    hb_status prefix##_copy_in(struct hb_context *context, void *to, const void *host, size_t bytes);       \
    hb_status prefix##_copy_out(struct hb_context *context, void *host, const void *from, size_t bytes);    \
    hb_status prefix##_copy(struct hb_context *context, void *to, const void *from, size_t bytes);          \
    hb_status prefix##_zero(struct hb_context *context, void *memory, size_t bytes);                        \
    hb_status prefix##_sync(struct hb_context *context);                                                    \
    hb_status prefix##_join(struct hb_context *context, struct hb_comm *host, bool pairs,                   \
                            struct hb_comm **out);                                                          \
    hb_status prefix##_mark_absent(struct hb_context *context, const struct hb_parted *parted);             \
    hb_status prefix##_read_absent(struct hb_context *context, const struct hb_parted *parted);

HB_GPU_MEMORY(hb_cuda)
HB_GPU_MEMORY(hb_emulated)
HB_GPU_MEMORY(hb_checked)

#define HB_GPU_MEMORY_ENTRIES(prefix)                                                               \
    .open = prefix##_open, .close = prefix##_close, .alloc = prefix##_alloc, .free = prefix##_free, \
    .copy_in = prefix##_copy_in, .copy_out = prefix##_copy_out, .copy = prefix##_copy,              \
    .zero = prefix##_zero, .sync = prefix##_sync, .join = prefix##_join, \
    .mark_absent = prefix##_mark_absent, .read_absent = prefix##_read_absent

/* Defined where the build has nvcc, and where it has a C++ compiler. */
extern const struct hb_backend hb_backend_cuda;
extern const struct hb_backend hb_backend_emulated;

/* The emulated device under an opened context, for its counts. */
struct hb_emulator *hb_emulated_stream(struct hb_context *context);

/* Is there a device that `cuda` can use? Opening says the same. */
HB_MUST_USE hb_status hb_cuda_find_device(void);
/* By what messages between devices go, "NCCL 2.28.3"; HB_EUNSUPPORTED says why through the host. */
HB_MUST_USE hb_status hb_cuda_messages(const char **about);

#ifdef __cplusplus
}
#endif

#endif
