/* The table of one instruction-set level. */
#include "cpu/cpu.h"
#include "cpu/select.h"

#define ENTRY(op) .op = HB_CPU(op),

const struct hb_backend HB_CPU(backend) = {
    .api_version = HB_BACKEND_API,
    .name = "cpu",
    .about = "OpenMP and vector instructions, the bits of ref",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    HB_HOST_MEMORY,
    HB_FOR_EACH_OP(ENTRY)
};
