#include "ops/balance.h"

#include "ops/check.h"

hb_status hb_balance_loss(struct hb_context *context, const struct hb_balance_loss_args *args)
{
    const char *op = "balance_loss";
    HB_TRY(hb_check_tensor(context, op, "counts", &args->counts, HB_ONLY(HB_I64), 2));
    int64_t E = args->counts.shape[1];
    HB_TRY(hb_check_tensor(context, op, "prob_sum", &args->prob_sum, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "prob_sum", &args->prob_sum, 0, E));
    HB_TRY(hb_check_tensor(context, op, "fraction", &args->fraction, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "fraction", &args->fraction, 0, E));
    HB_TRY(hb_check_tensor(context, op, "loss", &args->loss, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "loss", &args->loss, 0, 1));
    if (args->rows < 1 || args->denominator < 1)
        return HB_FAIL(HB_EARGUMENT, "balance_loss: rows (%lld) and denominator (%lld) must be positive",
                       (long long)args->rows, (long long)args->denominator);
    HB_DISPATCH(context, balance_loss, args, 0);
}

hb_status hb_balance_bias(struct hb_context *context, const struct hb_balance_bias_args *args)
{
    const char *op = "balance_bias";
    HB_TRY(hb_check_tensor(context, op, "counts", &args->counts, HB_ONLY(HB_I64), 1));
    HB_TRY(hb_check_tensor(context, op, "found", &args->found, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size(op, "found", &args->found, 0, 1));
    HB_TRY(hb_check_tensor(context, op, "bias", &args->bias, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "bias", &args->bias, 0, args->counts.shape[0]));
    if (!(args->rate >= 0))
        return HB_FAIL(HB_EARGUMENT, "balance_bias: rate (%g) must not be negative", (double)args->rate);
    HB_DISPATCH(context, balance_bias, args, 0);
}
