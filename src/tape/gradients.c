#include "tape/gradients.h"

#include <stdlib.h>

#include "core/tree.h"
#include "ops/trace.h"

void hb_gradients_init(struct hb_gradients *gradients, struct hb_context *context)
{
    *gradients = (struct hb_gradients){.context = context};
    hb_pool_init(&gradients->pool, context, HB_MEMORY_FOLD);
}

void hb_gradients_release(struct hb_gradients *gradients)
{
    hb_pool_release(&gradients->pool);
}

static void drop_node(struct hb_gradients *gradients, struct hb_param_use *use, int index)
{
    if (use->nodes[index].buffer)
        hb_trace_forget(gradients->context, use->nodes[index].buffer->data);
    hb_pool_drop(&gradients->pool, use->nodes[index].buffer);
    hb_pool_drop(&gradients->pool, use->nodes[index].present_buffer);
    hb_pool_drop(&gradients->pool, use->nodes[index].wide);
    use->nodes[index] = use->nodes[--use->node_count];
    if (use->node_count)
        return;
    free(use->nodes);
    use->nodes = NULL;
}

/* How many nodes wait depends on the order of the leaves: they may be those of ep ranks in turn. */
static hb_status add_node(const struct hb_param *param, struct hb_param_use *use, int64_t microbatch)
{
    struct hb_fold_node *grown = realloc(use->nodes, ((size_t)use->node_count + 1) * sizeof *grown);
    if (!grown)
        return HB_FAIL(HB_EMEMORY, "%s: out of memory for the fold of its gradient", param->name);
    use->nodes = grown;
    use->nodes[use->node_count++] = (struct hb_fold_node){.begin = microbatch, .end = microbatch + 1};
    return HB_OK;
}

void hb_gradients_begin(struct hb_gradients *gradients, int64_t microbatches, struct hb_param *const *params,
                        int64_t count)
{
    gradients->microbatches = microbatches;
    for (int64_t p = 0; p < count; p++)
        for (int u = 0; u < params[p]->use_count; u++)
            hb_gradients_drop(gradients, params[p], u, 0, INT64_MAX); /* leftovers of a step that failed */
    gradients->pool.in_use_peak = gradients->pool.in_use;
}

/* The root may be a shard; a leaf is whole. */
static struct hb_tensor node_tensor(const struct hb_param *param, const struct hb_param_use *use,
                                    const struct hb_fold_node *node)
{
    struct hb_tensor t = param->value;
    t.dtype = use->root.dtype;
    t.data = node->buffer ? node->buffer->data : use->root.data;
    return t;
}

static struct hb_tensor node_present(const struct hb_param_use *use, const struct hb_fold_node *node)
{
    struct hb_tensor t = use->present;
    if (node->present_buffer)
        t.data = node->present_buffer->data;
    return t;
}

static int find_node(const struct hb_param_use *use, int64_t begin, int64_t end)
{
    for (int i = 0; i < use->node_count; i++)
        if (use->nodes[i].begin == begin && use->nodes[i].end == end)
            return i;
    return -1;
}

/* The waiting sibling of [begin, end), or -1. */
static int find_sibling(const struct hb_gradients *gradients, const struct hb_param_use *use, int64_t begin,
                        int64_t end)
{
    if (begin == 0 && end == gradients->microbatches)
        return -1;
    struct hb_node sibling = hb_tree_sibling((struct hb_node){begin, end}, gradients->microbatches);
    return find_node(use, sibling.begin, sibling.end);
}

/* Memory for what comes of no rows: dropped at the end of the leaf. */
static hb_status idle_leaf(struct hb_gradients *gradients, const struct hb_param *param,
                           const struct hb_param_use *use, struct hb_leaf *leaf)
{
    struct hb_fold_node node = {.begin = 0};
    struct hb_tensor full = node_tensor(param, use, &node);
    full.dtype = hb_real_dtype(gradients->context);
    *leaf = (struct hb_leaf){.node = -1, .epilogue = use->present.data ? HB_ADD : HB_STORE};
    HB_TRY(hb_pool_take(&gradients->pool, hb_tensor_bytes(&full), &leaf->buffer[0]));
    leaf->out = full;
    leaf->out.data = leaf->buffer[0]->data;
    if (!use->present.data)
        return HB_OK;
    hb_status status = hb_pool_take(&gradients->pool, hb_tensor_bytes(&use->present), &leaf->buffer[1]);
    if (status != HB_OK) {
        hb_pool_drop(&gradients->pool, leaf->buffer[0]);
        return status;
    }
    leaf->present = use->present;
    leaf->present.data = leaf->buffer[1]->data;
    return hb_zero(gradients->context, leaf->present);
}

hb_status hb_leaf_begin(struct hb_gradients *gradients, struct hb_param *param, int use_index,
                        int64_t microbatch, bool whole, struct hb_leaf *leaf)
{
    struct hb_param_use *use = &param->use[use_index];
    bool flags = use->present.data != NULL;
    if (microbatch == -1)
        return idle_leaf(gradients, param, use, leaf);
    if (microbatch < 0 || microbatch >= gradients->microbatches)
        return HB_FAIL(HB_EINTERNAL, "%s: leaf of microbatch %lld in a step of %lld", param->name,
                       (long long)microbatch, (long long)gradients->microbatches);
    int sibling = find_sibling(gradients, use, microbatch, microbatch + 1);
    bool rounded = use->root.dtype != hb_real_dtype(gradients->context);
    if (whole && !flags && !rounded && sibling >= 0 && use->nodes[sibling].end == microbatch) {
        struct hb_fold_node *node = &use->nodes[sibling];
        node->end = microbatch + 1;
        *leaf = (struct hb_leaf){.out = node_tensor(param, use, node), .epilogue = HB_ADD, .node = sibling};
        return HB_OK;
    }
    HB_TRY(add_node(param, use, microbatch));
    struct hb_fold_node *node = &use->nodes[use->node_count - 1];
    if (microbatch > 0 || param->level >= 2) {
        struct hb_tensor full = node_tensor(param, use, node);
        HB_TRY(hb_pool_take(&gradients->pool, hb_tensor_bytes(&full), &node->buffer));
        if (flags)
            HB_TRY(hb_pool_take(&gradients->pool, hb_tensor_bytes(&use->present), &node->present_buffer));
        /* the root has its name for good */
        HB_TRY(hb_trace_call_it(gradients->context, node->buffer->data, "gradient of", param->name));
    }
    *leaf = (struct hb_leaf){.out = node_tensor(param, use, node),
                             .epilogue = flags ? HB_ADD : HB_STORE,
                             .node = use->node_count - 1};
    if (rounded) {
        leaf->out.dtype = hb_real_dtype(gradients->context);
        HB_TRY(hb_pool_take(&gradients->pool, hb_tensor_bytes(&leaf->out), &node->wide));
        leaf->out.data = node->wide->data;
    }
    if (flags) {
        leaf->present = node_present(use, node);
        HB_TRY(hb_zero(gradients->context, leaf->present));
    }
    return HB_OK;
}

static hb_status merge(struct hb_gradients *gradients, const struct hb_param *param, struct hb_param_use *use,
                       int left, int right)
{
    struct hb_fold_merge_args args = {
        .left = node_tensor(param, use, &use->nodes[left]),
        .right = node_tensor(param, use, &use->nodes[right]),
        .left_present = node_present(use, &use->nodes[left]),
        .right_present = node_present(use, &use->nodes[right]),
    };
    HB_TRY(hb_fold_merge(gradients->context, &args));
    use->nodes[left].end = use->nodes[right].end;
    drop_node(gradients, use, right);
    return HB_OK;
}

hb_status hb_leaf_end(struct hb_gradients *gradients, struct hb_param *param, int use_index,
                      const struct hb_leaf *leaf)
{
    struct hb_param_use *use = &param->use[use_index];
    if (leaf->node < 0) {
        hb_pool_drop(&gradients->pool, leaf->buffer[0]);
        hb_pool_drop(&gradients->pool, leaf->buffer[1]);
        return HB_OK;
    }
    struct hb_fold_node *made = &use->nodes[leaf->node];
    int64_t begin = made->begin, end = made->end;
    if (made->wide) {
        HB_TRY(hb_cast(gradients->context,
                       &(struct hb_cast_args){.x = leaf->out, .out = node_tensor(param, use, made)}));
        hb_pool_drop(&gradients->pool, made->wide);
        made->wide = NULL;
    }
    int sibling;
    while ((sibling = find_sibling(gradients, use, begin, end)) >= 0) {
        int self = find_node(use, begin, end);
        bool on_the_left = use->nodes[sibling].end == begin;
        if (on_the_left)
            begin = use->nodes[sibling].begin;
        else
            end = use->nodes[sibling].end;
        HB_TRY(merge(gradients, param, use, on_the_left ? sibling : self, on_the_left ? self : sibling));
    }
    return HB_OK;
}

hb_status hb_gradients_node(struct hb_gradients *gradients, const struct hb_param *param, int use_index,
                            int64_t begin, int64_t end, struct hb_tensor *value, struct hb_tensor *present)
{
    (void)gradients;
    const struct hb_param_use *use = &param->use[use_index];
    int node = find_node(use, begin, end);
    if (node < 0)
        return HB_FAIL(HB_EINTERNAL, "%s: microbatches %lld to %lld are missing in the fold of its gradient",
                       param->name, (long long)begin, (long long)end - 1);
    *value = node_tensor(param, use, &use->nodes[node]);
    *present = node_present(use, &use->nodes[node]);
    return HB_OK;
}

void hb_gradients_drop(struct hb_gradients *gradients, struct hb_param *param, int use, int64_t begin,
                       int64_t end)
{
    for (int i = param->use[use].node_count - 1; i >= 0; i--)
        if (param->use[use].nodes[i].begin >= begin && param->use[use].nodes[i].end <= end)
            drop_node(gradients, &param->use[use], i);
}

hb_status hb_gradients_close_use(struct hb_gradients *gradients, struct hb_param *param, int use_index)
{
    struct hb_param_use *use = &param->use[use_index];
    if (use->node_count != 1 || use->nodes[0].begin != 0 || use->nodes[0].end != gradients->microbatches)
        return HB_FAIL(HB_EINTERNAL, "%s: the fold of its gradient is incomplete", param->name);
    if (use->present.data)
        HB_TRY(hb_fold_close(gradients->context, &(struct hb_fold_close_args){use->root, use->present}));
    drop_node(gradients, use, 0);
    return HB_OK;
}

hb_status hb_gradients_close(struct hb_gradients *gradients, struct hb_param *const *params, int64_t count)
{
    for (int64_t p = 0; p < count; p++) {
        struct hb_param *param = params[p];
        if (!param->trained)
            continue;
        for (int u = 0; u < param->use_count; u++)
            HB_TRY(hb_gradients_close_use(gradients, param, u));
        for (int u = 1; u < param->use_count; u++)
            HB_TRY(hb_add(gradients->context, &(struct hb_add_args){.a = param->use[0].root,
                                                                    .b = param->use[u].root,
                                                                    .out = param->use[0].root}));
    }
    return HB_OK;
}
