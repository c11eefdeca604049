/* Node tests of the ONNX project, as safetensors files: tensors input.NAME and
 * output.NAME, metadata `op`, `inputs`, `outputs` (lists of names) and
 * `attributes` (JSON). What our ops express is run; the rest says why not.
 *
 * Their expected values were computed in the tensors' own type in an unknown
 * order, so both sides may err: the bound is that of verify/compare.h, once for
 * our arithmetic and once for theirs, with sum|terms| taken from the largest
 * inputs (onnx.c states it per op). */
#ifndef HB_VERIFY_ONNX_H
#define HB_VERIFY_ONNX_H

#include "ops/backend.h"

enum hb_onnx_result { HB_ONNX_PASS, HB_ONNX_FAIL, HB_ONNX_UNCOVERED };

struct hb_onnx_verdict {
    enum hb_onnx_result result;
    char text[256]; /* the largest share of the bound and how it was run; what failed; why not covered */
};

/* HB_EFORMAT for a file that is no such test; what the backend refuses is a FAIL. */
HB_MUST_USE hb_status hb_onnx_verify(const char *path, struct hb_context *context,
                                     struct hb_onnx_verdict *out);

#endif
