#include "ops/fold.h"

#include "ref/ref.h"

static bool is_present(const struct hb_tensor *flags, int64_t part)
{
    return !flags->data || ((const int32_t *)flags->data)[part];
}

hb_status HB_REF(fold_merge)(struct hb_context *context, const struct hb_fold_merge_args *args)
{
    (void)context;
    int64_t G = args->left.shape[0], each = G ? hb_tensor_count(&args->left) / G : 0;
    for (int64_t g = 0; g < G; g++) {
        if (!is_present(&args->right_present, g))
            continue;
        bool both = is_present(&args->left_present, g);
        for (int64_t i = g * each; i < (g + 1) * each; i++) {
            real right = load(&args->right, i);
            store(&args->left, i, both ? load(&args->left, i) + right : right);
        }
        if (args->left_present.data)
            ((int32_t *)args->left_present.data)[g] = 1;
    }
    return HB_OK;
}

hb_status HB_REF(fold_close)(struct hb_context *context, const struct hb_fold_close_args *args)
{
    (void)context;
    int64_t G = args->root.shape[0], each = G ? hb_tensor_count(&args->root) / G : 0;
    for (int64_t g = 0; g < G; g++) {
        if (is_present(&args->present, g))
            continue;
        for (int64_t i = g * each; i < (g + 1) * each; i++)
            store(&args->root, i, 0);
        ((int32_t *)args->present.data)[g] = 1;
    }
    return HB_OK;
}
