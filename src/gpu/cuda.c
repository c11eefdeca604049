#include "gpu/memory.h"

#define DECLARE(op) hb_status hb_cuda_##op(struct hb_context *context, const struct hb_##op##_args *args);
HB_FOR_EACH_OP(DECLARE)

hb_status hb_cuda_limits(struct hb_context *context, struct hb_limits *out);

#define ENTRY(op) .op = hb_cuda_##op,

const struct hb_backend hb_backend_cuda = {
    .api_version = HB_BACKEND_API,
    .name = "cuda",
    .about = "NVIDIA devices, one for each rank",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    HB_GPU_MEMORY_ENTRIES(hb_cuda),
    .limits = hb_cuda_limits,
    HB_FOR_EACH_OP(ENTRY)
};
