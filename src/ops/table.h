/* The table of ops: every entry of struct hb_backend by name. */
#ifndef HB_OPS_TABLE_H
#define HB_OPS_TABLE_H

#include <stdbool.h>

#include "ops/backend.h"

/* One line per op; `X(name)` stands for member `name` of struct hb_backend and
 * argument struct hb_<name>_args. */
#define HB_FOR_EACH_OP(X)      \
    X(embedding_forward)       \
    X(embedding_backward)      \
    X(product)                 \
    X(rmsnorm_forward)         \
    X(rmsnorm_backward_input)  \
    X(rmsnorm_backward_weight) \
    X(rope)                    \
    X(attention_forward)       \
    X(attention_backward)      \
    X(router_forward)          \
    X(router_backward)         \
    X(balance_loss)            \
    X(balance_bias)            \
    X(dispatch_plan)           \
    X(dispatch_forward)        \
    X(dispatch_backward)       \
    X(combine_forward)         \
    X(combine_backward)        \
    X(swiglu_forward)          \
    X(swiglu_backward)         \
    X(add)                     \
    X(cross_entropy)           \
    X(column_sum)              \
    X(fold_merge)              \
    X(fold_close)              \
    X(sum)                     \
    X(clip)                    \
    X(finite)                  \
    X(adamw)                   \
    X(cast)                    \
    X(digest)

struct hb_op_entry {
    const char *name;
    const char *header; /* "rmsnorm": the stem of its header, page and files */
    size_t offset;      /* of its pointer in struct hb_backend */
};

extern const struct hb_op_entry hb_op_table[];
extern const int hb_op_count;

bool hb_backend_has(const struct hb_backend *backend, const struct hb_op_entry *entry);

/* Copies `backend` to `out` and fills its empty op entries from `base`. */
void hb_backend_inherit(const struct hb_backend *backend, const struct hb_backend *base, struct hb_backend *out);

#endif
