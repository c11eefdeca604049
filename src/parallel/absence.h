/* Which parts of a gradient are absent (ops/fold.h), said by the values themselves, so that ranks send
 * nothing but values: those of an absent part are never read, so the first of them may say that it is.
 *
 * The mark is the NaN with all bits set, of every float type. A part that is there and begins with just these
 * bits gets the NaN without the last of them: all NaN count as equal (numerics.md rule 5). */
#ifndef HB_PARALLEL_ABSENCE_H
#define HB_PARALLEL_ABSENCE_H

#include "core/dtype.h"
#include "tape/param.h"

/* `values`, in host memory: the elements `range` of a parameter whose parts have `size` elements each.
 * `present`: a flag for each part that the range touches, if only by one element. */
void hb_absence_mark(void *values, enum hb_dtype dtype, struct hb_range range, int64_t size,
                     const int32_t *present);
/* The same flags, out of the values. */
void hb_absence_read(const void *values, enum hb_dtype dtype, struct hb_range range, int64_t size,
                     int32_t *present);

#endif
