#include "ops/cross_entropy.h"

#include "ops/check.h"

hb_status hb_cross_entropy(struct hb_context *context, const struct hb_cross_entropy_args *args)
{
    const char *op = "cross_entropy";
    HB_TRY(hb_check_tensor(context, op, "logits", &args->logits, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "labels", &args->labels, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size(op, "labels", &args->labels, 0, args->logits.shape[0]));
    HB_TRY(hb_check_tensor(context, op, "loss", &args->loss, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "loss", &args->loss, 0, args->logits.shape[0]));
    HB_TRY(hb_check_apart(op, "loss", &args->loss, "logits", &args->logits));
    HB_DISPATCH(context, cross_entropy, args, 0);
}
