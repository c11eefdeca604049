#include "gpu/piece.h"
#include "gpu/strip.h"

extern "C" {
#include "ops/fold.h"
}

/* Parts of `each` elements; flags NULL: all present. */
static __global__ void merge(struct array left, struct array right, const int32_t *left_present,
                             const int32_t *right_present, int64_t n, int64_t each)
{
    for (auto s = strip_of_thread(n); s.has(0); s.next()) {
        bool wanted[AT_ONCE], both[AT_ONCE]; /* what is absent is not even read */
        UNROLL
        for (int e = 0; e < AT_ONCE; e++) {
            int64_t part = s.has(e) && (right_present || left_present) ? s.at(e) / each : 0;
            wanted[e] = s.has(e) && (!right_present || right_present[part]);
            both[e] = wanted[e] && (!left_present || left_present[part]);
        }
        float x[AT_ONCE], y[AT_ONCE];
        read_several(x, left, [&](int e) { return both[e] ? s.at(e) : (int64_t)-1; });
        read_several(y, right, [&](int e) { return wanted[e] ? s.at(e) : (int64_t)-1; });
        UNROLL
        for (int e = 0; e < AT_ONCE; e++)
            if (wanted[e])
                store(left, s.at(e), both[e] ? x[e] + y[e] : y[e]);
    }
}

static __global__ void merge_flags(int32_t *left_present, const int32_t *right_present, int64_t parts)
{
    for (int64_t g = first_element(); g < parts; g += element_stride())
        if (!right_present || right_present[g])
            left_present[g] = 1;
}

static __global__ void close_parts(struct array root, const int32_t *present, int64_t n, int64_t each)
{
    for (int64_t i = first_element(); i < n; i += element_stride())
        if (!present[i / each])
            store(root, i, 0.0f);
}

static __global__ void close_flags(int32_t *present, int64_t parts)
{
    for (int64_t g = first_element(); g < parts; g += element_stride())
        present[g] = 1;
}

/* The flags change in a launch of their own: every element of a part reads them. */
extern "C" hb_status HB_GPU(fold_merge)(struct hb_context *context, const struct hb_fold_merge_args *args)
{
    int64_t G = args->left.shape[0], n = hb_tensor_count(&args->left);
    HB_TRY(launch("fold_merge", merge, strip_blocks(n), STRIP_THREADS, 0, gpu_stream_of(context),
                  array_of(&args->left), array_of(&args->right), i32_of(&args->left_present),
                  i32_of(&args->right_present), n, G ? n / G : 1));
    if (!args->left_present.data)
        return HB_OK;
    return launch("fold_merge", merge_flags, blocks_for(G, 256), 256, 0, gpu_stream_of(context),
                  i32_of(&args->left_present), i32_of(&args->right_present), G);
}

extern "C" hb_status HB_GPU(fold_close)(struct hb_context *context, const struct hb_fold_close_args *args)
{
    if (!args->present.data)
        return HB_OK;
    int64_t G = args->root.shape[0], n = hb_tensor_count(&args->root);
    HB_TRY(launch("fold_close", close_parts, blocks_for(n, 256), 256, 0, gpu_stream_of(context),
                  array_of(&args->root), i32_of(&args->present), n, G ? n / G : 1));
    return launch("fold_close", close_flags, blocks_for(G, 256), 256, 0, gpu_stream_of(context),
                  i32_of(&args->present), G);
}
