/* A golden case: one call of one op with its inputs and expected outputs, in a
 * safetensors file (docs/golden-format.md). Opening checks the file against the
 * op's argument struct; running makes the call on any context. */
#ifndef HB_VERIFY_CASE_H
#define HB_VERIFY_CASE_H

#include <jansson.h>
#include <stdbool.h>

#include "core/safetensors.h"
#include "ops/table.h"

/* One tensor argument that the file gives. */
struct hb_case_tensor {
    const struct hb_op_tensor *argument;
    enum hb_dtype dtype; /* in the call */
    int rank;
    int64_t shape[HB_RANK_MAX];
    int64_t count;
    bool given, expected;                /* has input.NAME; has output.NAME */
    struct hb_safetensors_tensor input;  /* in the dtype of the call */
    struct hb_safetensors_tensor output; /* fp64, or the dtype of the call when steps is 0 */
    struct hb_safetensors_tensor terms;  /* fp32, abs.NAME; there when steps > 0 */
    int64_t steps;                       /* n of the bound; 0: exact */
};

enum { HB_CASE_TENSORS = 24 };

struct hb_case {
    struct hb_safetensors *file; /* owned */
    json_t *args;                /* owned */
    const struct hb_op_entry *op;
    enum hb_dtype dtype; /* storage type, for the table */
    const char *label;   /* what the file says of itself */
    int count;
    struct hb_case_tensor tensors[HB_CASE_TENSORS];
};

/* HB_EFORMAT names the first thing that does not fit the op. Values of indices
 * are not checked: a file's author answers for them. */
HB_MUST_USE hb_status hb_case_open(const char *path, struct hb_case *out);
void hb_case_close(struct hb_case *c);

/* What a run left in the tensors, by their number: malloc'd host copies, NULL
 * for those that are only read. */
struct hb_case_results {
    int count;
    void *data[HB_CASE_TENSORS];
};

/* Makes the call. HB_EINTERNAL when the backend changed a tensor that the op
 * only reads, or the floating-point environment. Outputs start as NaN bytes
 * unless the file gives them. On failure nothing is left to release. */
HB_MUST_USE hb_status hb_case_run(const struct hb_case *c, struct hb_context *context,
                                  struct hb_case_results *out);
void hb_case_results_release(struct hb_case_results *results);

/* Does the backend have a type for each float tensor of the case? */
bool hb_case_fits(const struct hb_case *c, const struct hb_backend *backend);

/* "out[3,5]" for element `at` of tensor number `t`; returns `text`. */
char *hb_case_place(const struct hb_case *c, int t, int64_t at, char *text, size_t size);

#endif
