/* add: out = a + b, element by element, one rounding; also exact for i64.
 * Residual connections, and every place where two gradients of one value meet.
 *
 * Shapes: all alike, any rank; one dtype (a storage type or i64). out may be a or b. */
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
