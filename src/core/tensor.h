/* A tensor is a view: a pointer, a dtype and a shape, row-major and without
 * gaps, in PyTorch's order of dimensions. It owns nothing. Its memory belongs
 * to an opened backend (`home`), and only that backend may look at `data`;
 * home == NULL means host memory that no op will be given. */
#ifndef HB_CORE_TENSOR_H
#define HB_CORE_TENSOR_H

#include <stdbool.h>

#include "core/dtype.h"

#define HB_RANK_MAX 6

struct hb_context;

struct hb_tensor {
    void *data;
    const struct hb_context *home;
    enum hb_dtype dtype;
    int rank;
    int64_t shape[HB_RANK_MAX]; /* unused entries are 1 */
};

/* A view of `data` with the given shape. */
struct hb_tensor hb_tensor_1d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t n);
struct hb_tensor hb_tensor_2d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t rows,
                              int64_t columns);
struct hb_tensor hb_tensor_3d(const struct hb_context *home, void *data, enum hb_dtype dtype, int64_t n0,
                              int64_t n1, int64_t n2);

/* Number of elements; bytes. */
int64_t hb_tensor_count(const struct hb_tensor *t);
size_t hb_tensor_bytes(const struct hb_tensor *t);

/* "f32[4,256]" into `text`; returns `text`. */
char *hb_tensor_describe(const struct hb_tensor *t, char *text, size_t size);

/* The same elements under another shape (equal count: the caller's promise). */
struct hb_tensor hb_tensor_as_2d(struct hb_tensor t, int64_t rows, int64_t columns);
struct hb_tensor hb_tensor_as_3d(struct hb_tensor t, int64_t n0, int64_t n1, int64_t n2);

/* Rows [begin, begin + count) of the first dimension. */
struct hb_tensor hb_tensor_rows(struct hb_tensor t, int64_t begin, int64_t count);

bool hb_tensor_same_shape(const struct hb_tensor *a, const struct hb_tensor *b);

#endif
