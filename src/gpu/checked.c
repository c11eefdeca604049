/* The module that `hornbook verify --backend src/gpu/.libs/checked.so` loads. */
#include "gpu/memory.h"

#define DECLARE(op) hb_status hb_checked_##op(struct hb_context *context, const struct hb_##op##_args *args);
HB_FOR_EACH_OP(DECLARE)

#define ENTRY(op) .op = hb_checked_##op,

const struct hb_backend hb_backend_plugin = {
    .api_version = HB_BACKEND_API,
    .name = "cuda-checked",
    .about = "cuda-emulated with its checker: races, unwritten reads, accesses out of range",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    HB_GPU_MEMORY_ENTRIES(hb_checked),
    HB_FOR_EACH_OP(ENTRY)
};
