/* add: out = a + b, element by element, one rounding; also exact for i64.
 * Residual connections, and every place where two gradients of one value meet.
 *
 * Shapes: all alike, any rank; storage types, or i64 all three. out may be a or b
 * where their elements have the same size. */
#ifndef HB_OPS_ADD_H
#define HB_OPS_ADD_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_add_args {
    struct hb_tensor a;
    struct hb_tensor b;
    struct hb_tensor out;
};

HB_MUST_USE hb_status hb_add(struct hb_context *context, const struct hb_add_args *args);

#endif
