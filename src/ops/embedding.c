#include "ops/embedding.h"

#include "ops/check.h"

hb_status hb_embedding_forward(struct hb_context *context, const struct hb_embedding_forward_args *args)
{
    const char *op = "embedding_forward";
    HB_TRY(hb_check_tensor(context, op, "weight", &args->weight, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "ids", &args->ids, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_tensor(context, op, "out", &args->out, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "out", &args->out, 0, args->ids.shape[0]));
    HB_TRY(hb_check_size(op, "out", &args->out, 1, args->weight.shape[1]));
    HB_TRY(hb_check_apart(op, "out", &args->out, "weight", &args->weight));
    HB_DISPATCH(context, embedding_forward, args, 0);
}

hb_status hb_embedding_backward(struct hb_context *context, const struct hb_embedding_backward_args *args)
{
    const char *op = "embedding_backward";
    HB_TRY(hb_check_tensor(context, op, "ids", &args->ids, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_tensor(context, op, "dout", &args->dout, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dout", &args->dout, 0, args->ids.shape[0]));
    HB_TRY(hb_check_tensor(context, op, "dweight", &args->dweight, HB_REAL, 2));
    HB_TRY(hb_check_size(op, "dweight", &args->dweight, 1, args->dout.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "present", &args->present, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size(op, "present", &args->present, 0, args->dweight.shape[0]));
    HB_TRY(hb_check_apart(op, "dweight", &args->dweight, "dout", &args->dout));
    HB_DISPATCH(context, embedding_backward, args, 0);
}
