#include "ref/backend.h"

#include "ref/ref.h"

#define ENTRY(op) .op = HB_REF(op),

#ifdef HB_REF_DOUBLE
const struct hb_backend hb_backend_ref64 = {
    .api_version = HB_BACKEND_API,
    .name = "ref64",
    .about = "the reference in double: truth for gradient checks and error bounds",
    .storage = HB_STORAGE(HB_F64),
    HB_HOST_MEMORY,
    HB_FOR_EACH_OP(ENTRY)
};
#else
const struct hb_backend hb_backend_ref = {
    .api_version = HB_BACKEND_API,
    .name = "ref",
    .about = "plain scalar C: defines the bits",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    HB_HOST_MEMORY,
    HB_FOR_EACH_OP(ENTRY)
};
#endif
