/* product: matrix products, the one op behind every linear layer.
 *
 *   form   a        b        out      formula            used for
 *   NT     [m,k]    [n,k]    [m,n]    out = a b^T        y  = x W^T      (forward)
 *   NN     [m,k]    [k,n]    [m,n]    out = a b          dx = dy W       (input gradient)
 *   TN     [k,m]    [k,n]    [m,n]    out = a^T b        dW = dy^T x     (weight gradient)
 *
 * Bits (numerics.md rule 1): per output element k runs in blocks of 256 aligned
 * to 0; a block is one chain acc = +0, acc = fmaf(a, b, acc) for k ascending;
 * the block sums are added ascending. Epilogues:
 *   STORE     out = total (k = 0: +0)
 *   CONTINUE  the total starts from out, block sums are added to it
 *   ADD       out = out + total, one rounding (k = 0: unchanged)
 * No element depends on the other rows, columns or groups of the call.
 *
 * Groups (experts): `offsets` i32 [G+1], ascending from 0; group g owns rows
 * [offsets[g], offsets[g+1]) of the token dimension.
 *   NT, NN: rows of a and out are grouped, b has a leading dimension G.
 *   TN: rows of a and b (k) are grouped, out has a leading dimension G; each
 *       group's k starts at its own row 0. With `present` i32 [G] the epilogue
 *       must be ADD, and means: a group without rows is left alone; one with
 *       rows is stored if present[g] == 0 (which becomes 1), else added. That is
 *       how an expert's absent leaf stays the identity of the fold.
 *
 * dtypes: a, b, out in storage types of their own; out is fp32 for CONTINUE.
 * out overlaps neither a nor b. FLOPs 2 m n k; bytes: each operand once.
 * Under `numerics: fast` the order of the sum is the vendor's, and the bound on
 * docs/ops/product.md holds instead of the bits. */
#ifndef HB_OPS_PRODUCT_H
#define HB_OPS_PRODUCT_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

enum hb_product_form { HB_PRODUCT_NT, HB_PRODUCT_NN, HB_PRODUCT_TN };
enum hb_product_epilogue { HB_STORE, HB_CONTINUE, HB_ADD };

struct hb_product_args {
    enum hb_product_form form;
    enum hb_product_epilogue epilogue;
    struct hb_tensor a;
    struct hb_tensor b;
    struct hb_tensor out;
    struct hb_tensor offsets; /* i32 [G+1]; data NULL: not grouped */
    struct hb_tensor present; /* i32 [G] read and written; data NULL: none */
};

/* Sizes of a checked call: m, n, k as above (k of TN: all rows), groups >= 1. */
struct hb_product_sizes {
    int64_t m, n, k, groups;
};
struct hb_product_sizes hb_product_sizes(const struct hb_product_args *args);

HB_MUST_USE hb_status hb_product(struct hb_context *context, const struct hb_product_args *args);

#endif
