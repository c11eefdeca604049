/* The table of ops: every entry of struct hb_backend by name, with what is in
 * its argument struct. */
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

/* What an op does with a tensor. */
enum hb_op_use { HB_READS = 1, HB_WRITES = 2, HB_UPDATES = HB_READS | HB_WRITES };

/* A tensor of an argument struct. */
struct hb_op_tensor {
    const char *name; /* of the member */
    size_t offset;    /* of the member */
    enum hb_op_use use;
    /* Offset of the epilogue, 0: none. Under HB_STORE an updated tensor is only written. */
    size_t epilogue;
    /* Offset of the flags of its equal parts, 0: none; they may also be left out of
     * the call. A part whose flag is 0 has no defined content. */
    size_t present;
};

/* Anything else in an argument struct. */
enum hb_op_number_kind {
    HB_NUMBER_INT,      /* int64_t */
    HB_NUMBER_FLOAT,    /* float */
    HB_NUMBER_BOOL,     /* bool */
    HB_NUMBER_FORM,     /* enum hb_product_form, hb_op_form_names */
    HB_NUMBER_EPILOGUE, /* enum hb_product_epilogue, hb_op_epilogue_names */
    HB_NUMBER_COMBINE,  /* enum hb_attention_combine, hb_op_combine_names */
};

/* "NT", "NN", "TN"; "STORE", "CONTINUE", "ADD"; "joint", "sum", "gated". */
extern const char *const hb_op_form_names[3], *const hb_op_epilogue_names[3], *const hb_op_combine_names[3];

struct hb_op_number {
    const char *name;
    size_t offset;
    enum hb_op_number_kind kind;
    bool optional; /* a golden case may leave it out: 0, false, the first name */
};

struct hb_op_entry {
    const char *name;
    const char *header; /* "rmsnorm": the stem of its header, page and files */
    size_t offset;      /* of its pointer in struct hb_backend */
    const struct hb_op_tensor *tensors; /* all of them, in the order of the struct */
    int tensor_count;
    const struct hb_op_number *numbers; /* likewise */
    int number_count;
    size_t size; /* of the argument struct */
    hb_status (*call)(struct hb_context *context, const void *args); /* the dispatcher */
};

extern const struct hb_op_entry hb_op_table[];
extern const int hb_op_count;

/* NULL when there is no such op. */
const struct hb_op_entry *hb_op_find(const char *name);

/* The tensor of a call; data NULL where an optional one was left out. */
const struct hb_tensor *hb_op_tensor_of(const void *args, const struct hb_op_tensor *t);
/* A number of a call as text that tells every value from every other: "17",
 * "0x1.8p-3", "true", "NT". Returns `text`. */
const char *hb_op_number_text(const void *args, const struct hb_op_number *number, char text[32]);

/* Its use in this call. */
enum hb_op_use hb_op_use_of(const void *args, const struct hb_op_tensor *t);

/* Bytes that op `name` has to move: each tensor of the call once for each use. 0
 * for an embedding, which reads of its table only the rows that occur. */
double hb_op_bytes(const char *name, const void *args);

bool hb_backend_has(const struct hb_backend *backend, const struct hb_op_entry *entry);

/* Copies `backend` to `out` and fills its empty op entries from `base`. */
void hb_backend_inherit(const struct hb_backend *backend, const struct hb_backend *base,
                        struct hb_backend *out);

#endif
