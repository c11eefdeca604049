/* Products under `numerics: fast`: the contract of ops/product.h but for the
 * bits. Only a device has cuBLAS; cuda-emulated refuses with HB_EUNSUPPORTED. */
#ifndef HB_GPU_FAST_H
#define HB_GPU_FAST_H

#include "gpu/gpu.h"

extern "C" {
#include "ops/product.h"

/* false: the canonical kernel is to compute this product. */
bool HB_GPU(fast_takes)(const struct hb_product_args *args);
hb_status HB_GPU(fast_product)(struct hb_context *context, const struct hb_product_args *args);
/* Makes what the first product would make, which may wait for messages, before there are any. */
hb_status HB_GPU(fast_start)(struct hb_context *context);
}

#endif
