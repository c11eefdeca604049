/* Cuts the blocks of a model into stages of consecutive blocks, so that the dearest stage is as cheap as can
 * be. */
#ifndef HB_PARALLEL_PARTITION_H
#define HB_PARALLEL_PARTITION_H

#include <stdint.h>

#include "core/status.h"

/* begin[s] is the first block of stage s, begin[stages] = blocks; every stage has at least one. Among the
 * cuts whose dearest stage is cheapest it is the most even one: the smallest sum of squares, and of equal
 * ones that with the fewest blocks in front. Costs >= 0. */
HB_MUST_USE hb_status hb_partition(const double *cost, int64_t blocks, int stages, int64_t *begin);

#endif
