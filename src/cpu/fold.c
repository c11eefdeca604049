#include "ops/fold.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

static inline bool is_present(const int32_t *flags, int64_t part)
{
    return !flags || flags[part];
}

static void add_block(const struct hb_fold_merge_args *args, int64_t begin, int64_t n)
{
    float a[HB_BLOCK], b[HB_BLOCK], room[HB_BLOCK], *sum = hb_place(&args->left, begin, room);
    const float *left = hb_read(&args->left, begin, n, a), *right = hb_read(&args->right, begin, n, b);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] = left[i] + right[i];
    hb_write(&args->left, begin, n, sum);
}

/* Elements [begin, end) of one part. */
static void merge_part(const struct hb_fold_merge_args *args, int64_t begin, int64_t end, bool both)
{
    for (int64_t i = begin; both && i < end; i += HB_BLOCK)
        add_block(args, i, hb_at_most(end - i, HB_BLOCK));
    if (!both)
        hb_move(&args->right, begin, &args->left, begin, end - begin);
}

/* Shares are ranges of elements, since a tensor may be one large part or many small ones. */
hb_status HB_CPU(fold_merge)(struct hb_context *context, const struct hb_fold_merge_args *args)
{
    const int32_t *right_present = args->right_present.data;
    int32_t *left_present = args->left_present.data;
    int64_t G = left_present ? args->left.shape[0] : 1; /* without flags all parts are one */
    int64_t n = hb_tensor_count(&args->left), each = G ? n / G : 0;
    int parts = hb_row_threads(context, n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int64_t begin = n * part / parts, end = n * (part + 1) / parts;
        while (begin < end) {
            int64_t g = begin / each, stop = hb_at_most((g + 1) * each, end);
            if (is_present(right_present, g))
                merge_part(args, begin, stop, is_present(left_present, g));
            begin = stop;
        }
    }
    for (int64_t g = 0; left_present && g < G; g++)
        if (right_present[g])
            left_present[g] = 1;
    return HB_OK;
}

hb_status HB_CPU(fold_close)(struct hb_context *context, const struct hb_fold_close_args *args)
{
    int64_t G = args->root.shape[0], each = G ? hb_tensor_count(&args->root) / G : 0;
    size_t size = hb_dtype_size(args->root.dtype);
    int32_t *present = args->present.data;
    if (!present)
        return HB_OK;
    int threads = hb_row_threads(context, G * each);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t g = 0; g < G; g++)
        if (!present[g]) {
            memset((char *)args->root.data + (size_t)(g * each) * size, 0, (size_t)each * size);
            present[g] = 1;
        }
    return HB_OK;
}
