/* fold: two nodes of the fold tree become one (numerics.md rule 18), and the
 * root is made whole.
 *
 * A gradient tensor has G equal parts (experts of a stack, rows of an
 * embedding), each with a flag: 1 = present, 0 = absent, the identity.
 * merge: per part, both present: left + right (one rounding); only right
 *        present: a copy of right; otherwise left stays. left's flag becomes
 *        the `or` of both.
 * close: absent parts become +0 and their flag 1.
 * Without flags (data NULL on both sides) every part is present.
 *
 * left and right do not share memory.
 *
 * Shapes: left, right [G, ...] of one dtype; left_present, right_present i32 [G]. */
#ifndef HB_OPS_FOLD_H
#define HB_OPS_FOLD_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_fold_merge_args {
    struct hb_tensor left;          /* updated */
    struct hb_tensor right;         /* read */
    struct hb_tensor left_present;  /* updated; data NULL: none */
    struct hb_tensor right_present; /* read; data NULL: none */
};

struct hb_fold_close_args {
    struct hb_tensor root;
    struct hb_tensor present;
};

HB_MUST_USE hb_status hb_fold_merge(struct hb_context *context, const struct hb_fold_merge_args *args);
HB_MUST_USE hb_status hb_fold_close(struct hb_context *context, const struct hb_fold_close_args *args);

#endif
