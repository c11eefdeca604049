/* What it takes to make a call from a file: the scalar members of every argument
 * struct by name (ops/table.h knows the tensors), and the dispatcher. */
#ifndef HB_VERIFY_ARGUMENTS_H
#define HB_VERIFY_ARGUMENTS_H

#include <stddef.h>

#include "ops/table.h"

enum hb_scalar_kind {
    HB_SCALAR_INT,      /* int64_t */
    HB_SCALAR_FLOAT,    /* float */
    HB_SCALAR_BOOL,     /* bool */
    HB_SCALAR_FORM,     /* enum hb_product_form: "NT", "NN", "TN" */
    HB_SCALAR_EPILOGUE, /* enum hb_product_epilogue: "STORE", "CONTINUE", "ADD" */
    HB_SCALAR_COMBINE,  /* enum hb_attention_combine: "joint", "sum", "gated" */
};

struct hb_op_scalar {
    const char *op; /* as in hb_op_table */
    const char *name;
    enum hb_scalar_kind kind;
    size_t offset;
    bool optional; /* a file may leave it out: 0, false, the first name */
};

extern const struct hb_op_scalar hb_op_scalars[];
extern const int hb_op_scalar_count;

struct hb_op_call {
    const char *op;
    hb_status (*call)(struct hb_context *context, const void *args);
    size_t size; /* of the argument struct */
};

/* NULL when there is no such op. */
const struct hb_op_call *hb_op_call_find(const char *op);

#endif
