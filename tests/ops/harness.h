/* What the tests of ops share: memory on a backend, numbers to feed, every
 * backend under test, comparison of bits, and central differences.
 *
 * A difference test writes one function that runs a case on any context and
 * keeps its outputs; th_same_bits_everywhere runs it on `ref` and then on every
 * subject (each level of the cpu backend, 1, 2, 3 and 5 threads; strict, 1 and
 * 2; cuda-emulated; for mixtures of dtypes fewer), and compares all outputs bit
 * for bit (every NaN equals every NaN). */
#ifndef HB_TESTS_OPS_HARNESS_H
#define HB_TESTS_OPS_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "ops/backend.h"

/* Fails the test with hb_error() unless HB_OK. */
#define TH_OK(call) th_ok((call), #call, __FILE__, __LINE__)
void th_ok(hb_status status, const char *what, const char *file, int line);

/* A tensor in the memory of `context`, filled from `host` (NULL: NaN bytes, so
 * that an unwritten output shows). Host data is fp32 for float dtypes and is
 * converted to `dtype` (fp64, bf16, fp16 included); i32, i64 are taken as they are. */
struct hb_tensor th_tensor(struct hb_context *context, enum hb_dtype dtype, int rank, const int64_t *shape,
                           const void *host);
struct hb_tensor th_1d(struct hb_context *context, enum hb_dtype dtype, int64_t n, const void *host);
struct hb_tensor th_2d(struct hb_context *context, enum hb_dtype dtype, int64_t n0, int64_t n1,
                       const void *host);
struct hb_tensor th_3d(struct hb_context *context, enum hb_dtype dtype, int64_t n0, int64_t n1, int64_t n2,
                       const void *host);
void th_free(struct hb_context *context, struct hb_tensor *t);
/* The kernels under test: cuda-emulated, or what HB_KERNELS says: another backend by
 * its name (HB_KERNELS=cuda), or a module's file (tools/mutate-kernels). Then nothing
 * else is compared with ref. NULL: a build without a C++ compiler. */
const struct hb_backend *th_kernels(void);
/* The storage dtype of a context that stands for fp32 (fp64 on ref64). */
enum hb_dtype th_real(const struct hb_context *context);
/* The same for tensor number `i` of a case, whose header leaves its dtype open: a
 * test that calls it is run by th_same_bits_everywhere with several mixtures of fp32,
 * bf16 and fp16 besides all fp32. Tensors that share memory share a number. */
enum hb_dtype th_storage(const struct hb_context *context, int i);
/* Copy on the host, malloc'd: widened, or the bytes as they are stored. */
double *th_doubles(struct hb_context *context, struct hb_tensor t);
void *th_host(struct hb_context *context, struct hb_tensor t);

/* Numbers. Every kind is a pure function of seed and index. */
enum th_kind { TH_NORMAL, TH_SAME_SIGN, TH_ZEROS, TH_ONE_HOT, TH_LARGE, TH_DENORMAL, TH_TINY, TH_KIND_COUNT };
const char *th_kind_name(enum th_kind kind);
float *th_numbers(enum th_kind kind, uint64_t seed, int64_t n); /* malloc'd */
int32_t *th_integers(uint64_t seed, int64_t n, int32_t below);  /* malloc'd, uniform in [0, below) */

/* Outputs of a case. */
struct th_outputs {
    int count;
    struct th_output {
        char name[32];
        enum hb_dtype dtype;
        int64_t n;
        void *data;
    } item[16];
};
void th_keep(struct th_outputs *out, struct hb_context *context, const char *name, struct hb_tensor t);
void th_outputs_release(struct th_outputs *out);
void th_assert_same_bits(const char *label, const struct th_outputs *expected, const struct th_outputs *got);

typedef void (*th_run)(struct hb_context *context, const void *data, struct th_outputs *out);
void th_same_bits_everywhere(const char *label, th_run run, const void *data);

/* Central differences in double: `loss(data)` reads x[0..n) and must change by
 * dx. Steps of 1e-5 max(1, |x|); relative error at most 1e-6 of the largest
 * gradient, or 1e-9 absolutely. `context` is one of backend ref64. */
void th_check_gradient(const char *label, double (*loss)(void *data), void *data, double *x, const double *dx,
                       int64_t n);
/* Opens ref64 on one thread. */
void th_open_double(struct hb_context *context);
/* Replaces the content of a fp64 tensor. */
void th_put(struct hb_context *context, struct hb_tensor t, const double *host);

#endif
