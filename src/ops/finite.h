/* finite: is there an infinity or a NaN in x? found[0] becomes 1 if so, and is
 * left alone otherwise (the caller clears it once a step).
 *
 * Shapes: x any; found i32 [1]. */
#ifndef HB_OPS_FINITE_H
#define HB_OPS_FINITE_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_finite_args {
    struct hb_tensor x;
    struct hb_tensor found; /* i32 [1], or-ed */
};

HB_MUST_USE hb_status hb_finite(struct hb_context *context, const struct hb_finite_args *args);

#endif
