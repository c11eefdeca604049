#include "ops/swiglu.h"

#include "ops/check.h"

hb_status hb_swiglu_forward(struct hb_context *context, const struct hb_swiglu_forward_args *args)
{
    const char *op = "swiglu_forward";
    HB_TRY(hb_check_tensor(context, op, "gate", &args->gate, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, op, "up", &args->up, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "up", &args->up, "gate", &args->gate));
    HB_TRY(hb_check_tensor(context, op, "out", &args->out, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "out", &args->out, "gate", &args->gate));
    HB_TRY(hb_check_over(op, "out", &args->out, "gate", &args->gate));
    HB_TRY(hb_check_over(op, "out", &args->out, "up", &args->up));
    HB_DISPATCH(context, swiglu_forward, args, 0);
}

hb_status hb_swiglu_backward(struct hb_context *context, const struct hb_swiglu_backward_args *args)
{
    const char *op = "swiglu_backward";
    HB_TRY(hb_check_tensor(context, op, "gate", &args->gate, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, op, "up", &args->up, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "up", &args->up, "gate", &args->gate));
    HB_TRY(hb_check_tensor(context, op, "dout", &args->dout, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "dout", &args->dout, "gate", &args->gate));
    HB_TRY(hb_check_tensor(context, op, "dgate", &args->dgate, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "dgate", &args->dgate, "gate", &args->gate));
    HB_TRY(hb_check_tensor(context, op, "dup", &args->dup, HB_FLOATS, 0));
    HB_TRY(hb_check_shape(op, "dup", &args->dup, "gate", &args->gate));
    HB_TRY(hb_check_over(op, "dgate", &args->dgate, "gate", &args->gate));
    HB_TRY(hb_check_over(op, "dup", &args->dup, "up", &args->up));
    HB_TRY(hb_check_apart(op, "dgate", &args->dgate, "up", &args->up));
    HB_TRY(hb_check_apart(op, "dgate", &args->dgate, "dout", &args->dout));
    HB_TRY(hb_check_apart(op, "dup", &args->dup, "gate", &args->gate));
    HB_TRY(hb_check_apart(op, "dup", &args->dup, "dout", &args->dout));
    HB_TRY(hb_check_apart(op, "dgate", &args->dgate, "dup", &args->dup));
    HB_DISPATCH(context, swiglu_backward, args, 0);
}
