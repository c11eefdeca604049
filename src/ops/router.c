#include "ops/router.h"

#include "ops/check.h"

/* What forward and backward have in common: [n,E] beside [n,K]. */
static hb_status check_choice(const struct hb_context *context, const char *op, const struct hb_tensor *probs,
                              const struct hb_tensor *lse, const struct hb_tensor *index,
                              const struct hb_tensor *weight)
{
    HB_TRY(hb_check_tensor(context, op, "probs", probs, HB_REAL, 2));
    int64_t n = probs->shape[0], E = probs->shape[1];
    HB_TRY(hb_check_tensor(context, op, "lse", lse, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "lse", lse, 0, n));
    HB_TRY(hb_check_tensor(context, op, "index", index, HB_ONLY(HB_I32), 2));
    HB_TRY(hb_check_size(op, "index", index, 0, n));
    int64_t K = index->shape[1];
    if (K < 1 || K > E || E > INT32_MAX)
        return HB_FAIL(HB_ESHAPE, "%s: K (%lld) must be 1 to E (%lld), and E a 32-bit number", op,
                       (long long)K, (long long)E);
    HB_TRY(hb_check_tensor(context, op, "weight", weight, HB_REAL, 2));
    HB_TRY(hb_check_size(op, "weight", weight, 0, n));
    return hb_check_size(op, "weight", weight, 1, K);
}

static hb_status check_per_expert(const struct hb_context *context, const char *op, const char *argument,
                                  const struct hb_tensor *t, int64_t E)
{
    if (!hb_given(t))
        return HB_OK;
    HB_TRY(hb_check_tensor(context, op, argument, t, HB_REAL, 1));
    return hb_check_size(op, argument, t, 0, E);
}

hb_status hb_router_forward(struct hb_context *context, const struct hb_router_forward_args *args)
{
    const char *op = "router_forward";
    HB_TRY(check_choice(context, op, &args->probs, &args->lse, &args->index, &args->weight));
    int64_t E = args->probs.shape[1];
    HB_TRY(hb_check_tensor(context, op, "logits", &args->logits, HB_REAL, 2));
    HB_TRY(hb_check_like(op, "logits", &args->logits, "probs", &args->probs));
    HB_TRY(check_per_expert(context, op, "bias", &args->bias, E));
    HB_TRY(check_per_expert(context, op, "selection_bias", &args->selection_bias, E));
    HB_TRY(hb_check_tensor(context, op, "counts", &args->counts, HB_ONLY(HB_I64), 1));
    HB_TRY(hb_check_size(op, "counts", &args->counts, 0, E));
    HB_TRY(hb_check_apart(op, "probs", &args->probs, "logits", &args->logits));
    HB_DISPATCH(context, router_forward, args, 0);
}

hb_status hb_router_backward(struct hb_context *context, const struct hb_router_backward_args *args)
{
    const char *op = "router_backward";
    HB_TRY(check_choice(context, op, &args->probs, &args->lse, &args->index, &args->weight));
    HB_TRY(hb_check_tensor(context, op, "dweight", &args->dweight, HB_REAL, 2));
    HB_TRY(hb_check_like(op, "dweight", &args->dweight, "weight", &args->weight));
    HB_TRY(check_per_expert(context, op, "fraction", &args->fraction, args->probs.shape[1]));
    if (hb_given(&args->fraction) && args->aux_rows < 1)
        return HB_FAIL(HB_EARGUMENT, "router_backward: aux_rows (%lld) must be the rows behind fraction",
                       (long long)args->aux_rows);
    HB_TRY(hb_check_tensor(context, op, "dlogits", &args->dlogits, HB_REAL, 2));
    HB_TRY(hb_check_like(op, "dlogits", &args->dlogits, "probs", &args->probs));
    HB_TRY(hb_check_apart(op, "dlogits", &args->dlogits, "probs", &args->probs));
    HB_DISPATCH(context, router_backward, args, 0);
}
