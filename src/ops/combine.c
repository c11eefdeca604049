#include "ops/combine.h"

#include "ops/check.h"

static hb_status check_rows(const struct hb_context *context, const char *op, const struct hb_tensor *rows,
                            const struct hb_tensor *row_of, const struct hb_tensor *weight)
{
    HB_TRY(hb_check_tensor(context, op, "rows", rows, HB_FLOATS, 2));
    HB_TRY(hb_check_tensor(context, op, "row_of", row_of, HB_ONLY(HB_I32), 2));
    HB_TRY(hb_check_size(op, "rows", rows, 0, hb_tensor_count(row_of)));
    HB_TRY(hb_check_tensor(context, op, "weight", weight, HB_REAL, 2));
    HB_TRY(hb_check_size(op, "weight", weight, 0, row_of->shape[0]));
    return hb_check_size(op, "weight", weight, 1, row_of->shape[1]);
}

hb_status hb_combine_forward(struct hb_context *context, const struct hb_combine_forward_args *args)
{
    const char *op = "combine_forward";
    HB_TRY(check_rows(context, op, &args->rows, &args->row_of, &args->weight));
    HB_TRY(hb_check_tensor(context, op, "y", &args->y, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "y", &args->y, 0, args->row_of.shape[0]));
    HB_TRY(hb_check_size(op, "y", &args->y, 1, args->rows.shape[1]));
    HB_TRY(hb_check_apart(op, "y", &args->y, "rows", &args->rows));
    HB_DISPATCH(context, combine_forward, args,
                2.0 * (double)args->rows.shape[0] * (double)args->rows.shape[1]);
}

hb_status hb_combine_backward(struct hb_context *context, const struct hb_combine_backward_args *args)
{
    const char *op = "combine_backward";
    HB_TRY(check_rows(context, op, &args->rows, &args->row_of, &args->weight));
    HB_TRY(hb_check_tensor(context, op, "dy", &args->dy, HB_FLOATS, 2));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 0, args->row_of.shape[0]));
    HB_TRY(hb_check_size(op, "dy", &args->dy, 1, args->rows.shape[1]));
    HB_TRY(hb_check_tensor(context, op, "drows", &args->drows, HB_FLOATS, 2));
    HB_TRY(hb_check_shape(op, "drows", &args->drows, "rows", &args->rows));
    HB_TRY(hb_check_tensor(context, op, "dweight", &args->dweight, HB_REAL, 2));
    HB_TRY(hb_check_like(op, "dweight", &args->dweight, "weight", &args->weight));
    HB_TRY(hb_check_over(op, "drows", &args->drows, "rows", &args->rows));
    HB_TRY(hb_check_apart(op, "drows", &args->drows, "dy", &args->dy));
    HB_TRY(hb_check_apart(op, "dweight", &args->dweight, "weight", &args->weight));
    HB_DISPATCH(context, combine_backward, args,
                3.0 * (double)args->rows.shape[0] * (double)args->rows.shape[1]);
}
