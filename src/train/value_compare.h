/* The elements in which the tensors of two files part. */
#ifndef HB_TRAIN_VALUE_COMPARE_H
#define HB_TRAIN_VALUE_COMPARE_H

#include <stdint.h>

#include "core/dtype.h"
#include "core/status.h"
#include "core/tensor.h"

struct hb_value_difference {
    char name[320];
    enum hb_dtype dtype;
    int rank;
    int64_t shape[HB_RANK_MAX];
    int64_t count, different;   /* elements */
    int64_t first[HB_RANK_MAX]; /* coordinates of the first that differs */
    double a, b;                /* its values */
    int64_t ulp;                /* its distance in units in the last place; integers: the difference */
    int64_t ulp_max;            /* the largest of all; -1 where a NaN or an infinity is involved */
};

/* Compares the tensors of two safetensors files, in the order of A; `list` (malloc'd, the
 * caller's) takes the first `most` that differ, *different counts them all. Tensors
 * that only one has, or with another shape, are HB_ESHAPE. */
HB_MUST_USE hb_status hb_values_compare(const char *path_a, const char *path_b, int64_t most,
                                        struct hb_value_difference **list, int64_t *listed,
                                        int64_t *different, int64_t *tensors);

#endif
