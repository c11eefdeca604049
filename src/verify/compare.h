/* The two comparisons: with expected values within a derived bound, and with
 * other values bit for bit.
 *
 * The bound of an element whose computation adds terms t in n roundings, in
 * arithmetic of unit roundoff u (2^-24; 2^-53 for fp64 outputs), expected value
 * e, stored in a type of unit roundoff s (bf16 2^-8, fp16 2^-11; else 0):
 *
 *     worst   = n u / (1 - n u) * sum|t|        no order of summation can err more
 *     sharp   = lambda sqrt(n) u * sum|t|       roundings partly cancel; lambda = 4
 *     gate    = min(worst, sharp) + s (|e| + min(worst, sharp))
 *               + half the smallest denormals + 2^-53 |e| (e is rounded too)
 *
 * The minimum is the proved form while n < 16 and the sharp one beyond. */
#ifndef HB_VERIFY_COMPARE_H
#define HB_VERIFY_COMPARE_H

#include <stdint.h>

#include "core/dtype.h"

struct hb_comparison {
    double share;             /* the largest error / gate; a NaN out of place is infinite */
    double worst;             /* the same with `worst` in the gate */
    int64_t at;               /* the element of the largest share */
    int64_t first;            /* the first element beyond its gate, -1: none */
    double got, error, bound; /* of `first` */
};

/* got: count elements of `dtype`; expected fp64; terms = sum|t|, fp32. A NaN is
 * right only where one is expected. */
struct hb_comparison hb_compare_bound(enum hb_dtype dtype, const void *got, const double *expected,
                                      const float *terms, int64_t count, int64_t steps);

/* The first element that differs, -1 for none; every NaN equals every NaN. */
int64_t hb_compare_bits(enum hb_dtype dtype, const void *a, const void *b, int64_t count);

/* Element i of any dtype, as a double (i64 beyond 2^53 rounds). */
double hb_element_value(enum hb_dtype dtype, const void *data, int64_t i);

#endif
