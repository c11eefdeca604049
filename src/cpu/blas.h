/* Products under `numerics: fast`: the same op by OpenBLAS, whose order of sums
 * is its own. Compiled once, not per instruction-set level: OpenBLAS chooses its
 * kernels itself. */
#ifndef HB_CPU_BLAS_H
#define HB_CPU_BLAS_H

#include "ops/backend.h"

/* The contract of ops/product.h (fp32, checked) but for the bits. Refused with
 * HB_EUNSUPPORTED in a build without OpenBLAS, and for sizes beyond its integers.
 * Sets OpenBLAS's number of threads, which is one for the whole process. */
HB_MUST_USE hb_status hb_blas_product(struct hb_context *context, const struct hb_product_args *args);

#endif
