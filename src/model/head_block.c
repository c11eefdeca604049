/* The last block: final norm, head, loss. Or, for generation, the logits of
 * the rows that are asked for. */
#include "model/model.h"

hb_status hb_head_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                        struct hb_carry *carry)
{
    (void)block;
    struct hb_var *x = carry->residual, *normed = NULL;
    hb_status status;
    HB_TRY_CLEAN(hb_tape_rmsnorm(tape, x, model->final_norm, (float)model->config.rms_norm_eps, &normed));
    if (carry->logits.data) {
        struct hb_product_args args = {
            .form = HB_PRODUCT_NT,
            .a = hb_tensor_rows(normed->value, carry->logits_begin, carry->logits.shape[0]),
            .b = model->head->value,
            .out = carry->logits,
        };
        HB_TRY_CLEAN(hb_product(tape->context, &args));
    } else {
        HB_TRY_CLEAN(hb_tape_head(tape, normed, model->head, model->head_use, carry->labels,
                                  carry->loss_factor, carry->loss));
        HB_TRY_CLEAN(hb_sum(tape->context,
                            &(struct hb_sum_args){.x = carry->loss, .factor = 1, .out = carry->loss_sum}));
    }
    HB_TRY_CLEAN(hb_balance_end(tape->context, &carry->balance, x->value.shape[0]));
    carry->residual = NULL;
    hb_var_drop(tape, x);
cleanup:
    hb_var_drop(tape, normed);
    return status;
}
