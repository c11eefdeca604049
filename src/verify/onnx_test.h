/* What the mappings of ONNX operators share: one opened test with its inputs on
 * the host, memory on the context, and the comparison. Private to the onnx files. */
#ifndef HB_VERIFY_ONNX_TEST_H
#define HB_VERIFY_ONNX_TEST_H

#include <jansson.h>

#include "core/safetensors.h"
#include "verify/onnx.h"

enum { HB_ONNX_TENSORS = 16, HB_ONNX_HOST = 48 };

struct hb_onnx_test {
    struct hb_safetensors *file;
    json_t *attributes;
    json_t *inputs, *outputs; /* lists of names */
    struct hb_context *context;
    struct hb_onnx_verdict *verdict;
    struct hb_tensor tensors[HB_ONNX_TENSORS]; /* on the context */
    void *host[HB_ONNX_HOST];                  /* malloc'd */
    int tensor_count, host_count;
    double share;
};

/* Memory on the host, zeroed, freed with the test. */
HB_MUST_USE hb_status hb_onnx_host(struct hb_onnx_test *test, size_t bytes, void **out);

/* Input number i as fp32 (exact from fp16), with its shape. HB_EFORMAT if it is not there. */
HB_MUST_USE hb_status hb_onnx_input(struct hb_onnx_test *test, size_t i, struct hb_safetensors_tensor *shape,
                                    float **values);
/* The same for integers. */
HB_MUST_USE hb_status hb_onnx_input_i64(struct hb_onnx_test *test, size_t i,
                                        struct hb_safetensors_tensor *shape, int64_t **values);
/* Number of inputs. */
size_t hb_onnx_inputs(const struct hb_onnx_test *test);

/* Says why the test is not covered and returns HB_OK; use: return hb_onnx_uncovered(...). */
hb_status hb_onnx_uncovered(struct hb_onnx_test *test, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A tensor on the context: `values` are fp32 for float dtypes (converted), as
 * they are for integers, NULL for an output (NaN bytes). */
HB_MUST_USE hb_status hb_onnx_tensor(struct hb_onnx_test *test, enum hb_dtype dtype, int rank,
                                     const int64_t *shape, const void *values, struct hb_tensor *out);
/* Its values, widened. */
HB_MUST_USE hb_status hb_onnx_values(struct hb_onnx_test *test, struct hb_tensor t, double **out);

/* The error model of an output: n roundings of sums whose terms' magnitudes add
 * up to at most `terms` + `relative` |expected|; n = 0: exact. */
struct hb_onnx_bound {
    int64_t steps;
    double terms, relative;
};

/* Compares output number i, `count` values in its order. */
HB_MUST_USE hb_status hb_onnx_check(struct hb_onnx_test *test, size_t i, const double *got, int64_t count,
                                    struct hb_onnx_bound bound);

/* The largest magnitude. */
double hb_onnx_largest(const float *values, int64_t count);

/* Maps the operator and runs it: onnx_ops.c. */
HB_MUST_USE hb_status hb_onnx_run(struct hb_onnx_test *test, const char *op);

#endif
