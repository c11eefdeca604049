/* digest: the chunk hashes of parameters, where no optimizer step makes them
 * (a fresh model, a loaded checkpoint, a selection bias).
 *
 * x is a stack of G equal logical tensors of c elements; hash number
 * g ceil(c / 4096) + i is XXH3-64 of elements [4096 i, 4096 i + 4096) of tensor
 * g as little-endian fp32, NaNs as 7fc00000 (numerics.md rule 22).
 *
 * Shapes: x (bf16, fp16: the widened values), count a multiple of G;
 * chunk_hash i64 [G ceil(c / 4096)]. */
#ifndef HB_OPS_DIGEST_H
#define HB_OPS_DIGEST_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_digest_args {
    struct hb_tensor x;
    int64_t groups;
    struct hb_tensor chunk_hash; /* i64, stored */
};

HB_MUST_USE hb_status hb_digest(struct hb_context *context, const struct hb_digest_args *args);

#endif
