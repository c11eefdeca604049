/* column_sum: sums over the rows of a matrix (gradients of biases, router
 * probabilities per expert).
 *
 * Bits (numerics.md rule 4): chunks of 64 rows from row 0, each a sequential sum
 * starting at its first row; chunk sums by the fold tree; then STORE, or ADD to out.
 * No rows: STORE writes +0, ADD changes nothing.
 *
 * Shapes: x [n,D]; out fp32 [D]. */
#ifndef HB_OPS_COLUMN_SUM_H
#define HB_OPS_COLUMN_SUM_H

#include "core/status.h"
#include "core/tensor.h"
#include "ops/product.h"

struct hb_context;

struct hb_column_sum_args {
    struct hb_tensor x;   /* [n,D] */
    struct hb_tensor out; /* fp32 [D] */
    enum hb_product_epilogue epilogue;
};

HB_MUST_USE hb_status hb_column_sum(struct hb_context *context, const struct hb_column_sum_args *args);

#endif
