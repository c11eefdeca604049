/* cast: out = x in another storage type, rounded to nearest even (core/dtype.h).
 *
 * Shapes: alike; x and out any of fp64, fp32, bf16, fp16 (fp64 to a 16-bit type
 * goes through fp32, rounded twice). No aliasing. */
#ifndef HB_OPS_CAST_H
#define HB_OPS_CAST_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_cast_args {
    struct hb_tensor x;
    struct hb_tensor out;
};

HB_MUST_USE hb_status hb_cast(struct hb_context *context, const struct hb_cast_args *args);

#endif
