#include "parallel/hollow.h"

#include <stdlib.h>

struct hollow {
    uintptr_t next;
    int64_t bytes[HB_MEMORY_CATEGORY_COUNT];
};

static hb_status hollow_open(struct hb_context *context)
{
    struct hollow *h = calloc(1, sizeof *h);
    if (!h)
        return HB_FAIL(HB_EMEMORY, "out of memory for counting memory");
    h->next = 4096;
    context->state = h;
    return HB_OK;
}

static void hollow_close(struct hb_context *context)
{
    free(context->state);
}

/* Addresses grow, so that no two tensors overlap. */
static hb_status hollow_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                              void **out)
{
    struct hollow *h = context->state;
    *out = (void *)h->next;
    h->next += (bytes + 64) / 64 * 64;
    h->bytes[category] += (int64_t)bytes;
    return HB_OK;
}

static void hollow_free(struct hb_context *context, void *memory)
{
    (void)context;
    (void)memory;
}

static hb_status hollow_copy_in(struct hb_context *context, void *to, const void *from, size_t bytes)
{
    (void)context;
    (void)to;
    (void)from;
    (void)bytes;
    return HB_OK;
}

static hb_status hollow_zero(struct hb_context *context, void *memory, size_t bytes)
{
    return hollow_copy_in(context, memory, NULL, bytes);
}

static hb_status hollow_sync(struct hb_context *context)
{
    (void)context;
    return HB_OK;
}

int64_t hb_hollow_bytes(const struct hb_context *context, enum hb_memory_category category)
{
    return ((const struct hollow *)context->state)->bytes[category];
}

/* An op that does nothing. */
#define NOTHING(op)                                                                         \
    static hb_status no_##op(struct hb_context *context, const struct hb_##op##_args *args) \
    {                                                                                       \
        (void)context;                                                                      \
        (void)args;                                                                         \
        return HB_OK;                                                                       \
    }
NOTHING(embedding_forward)
NOTHING(embedding_backward)
NOTHING(product)
NOTHING(rmsnorm_forward)
NOTHING(rmsnorm_backward_input)
NOTHING(rmsnorm_backward_weight)
NOTHING(rope)
NOTHING(attention_forward)
NOTHING(attention_backward)
NOTHING(router_forward)
NOTHING(router_backward)
NOTHING(balance_loss)
NOTHING(balance_bias)
NOTHING(dispatch_plan)
NOTHING(dispatch_forward)
NOTHING(dispatch_backward)
NOTHING(combine_forward)
NOTHING(combine_backward)
NOTHING(swiglu_forward)
NOTHING(swiglu_backward)
NOTHING(add)
NOTHING(cross_entropy)
NOTHING(column_sum)
NOTHING(fold_merge)
NOTHING(fold_close)
NOTHING(sum)
NOTHING(clip)
NOTHING(finite)
NOTHING(adamw)
NOTHING(cast)
NOTHING(digest)

const struct hb_backend hb_hollow_backend = {
    .api_version = HB_BACKEND_API,
    .name = "hollow",
    .about = "counts and computes nothing",
    .storage = HB_STORAGE(HB_F32) | HB_STORAGE(HB_BF16) | HB_STORAGE(HB_F16),
    .host_memory = true,
    .open = hollow_open,
    .close = hollow_close,
    .alloc = hollow_alloc,
    .free = hollow_free,
    .copy_in = hollow_copy_in,
    .copy_out = hollow_copy_in,
    .copy = hollow_copy_in,
    .zero = hollow_zero,
    .sync = hollow_sync,
    .embedding_forward = no_embedding_forward,
    .embedding_backward = no_embedding_backward,
    .product = no_product,
    .rmsnorm_forward = no_rmsnorm_forward,
    .rmsnorm_backward_input = no_rmsnorm_backward_input,
    .rmsnorm_backward_weight = no_rmsnorm_backward_weight,
    .rope = no_rope,
    .attention_forward = no_attention_forward,
    .attention_backward = no_attention_backward,
    .router_forward = no_router_forward,
    .router_backward = no_router_backward,
    .balance_loss = no_balance_loss,
    .balance_bias = no_balance_bias,
    .dispatch_plan = no_dispatch_plan,
    .dispatch_forward = no_dispatch_forward,
    .dispatch_backward = no_dispatch_backward,
    .combine_forward = no_combine_forward,
    .combine_backward = no_combine_backward,
    .swiglu_forward = no_swiglu_forward,
    .swiglu_backward = no_swiglu_backward,
    .add = no_add,
    .cross_entropy = no_cross_entropy,
    .column_sum = no_column_sum,
    .fold_merge = no_fold_merge,
    .fold_close = no_fold_close,
    .sum = no_sum,
    .clip = no_clip,
    .finite = no_finite,
    .adamw = no_adamw,
    .cast = no_cast,
    .digest = no_digest,
};
