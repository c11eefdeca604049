#include "gpu/memory.h"

#define DECLARE(op) hb_status hb_emulated_##op(struct hb_context *context, const struct hb_##op##_args *args);
HB_FOR_EACH_OP(DECLARE)

#define ENTRY(op) .op = hb_emulated_##op,

const struct hb_backend hb_backend_emulated = {
    .api_version = HB_BACKEND_API,
    .name = "cuda-emulated",
    .about = "the kernels of cuda on this processor, every thread in its turn: for tests and debuggers",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    HB_GPU_MEMORY_ENTRIES(hb_emulated),
    HB_FOR_EACH_OP(ENTRY)
};
