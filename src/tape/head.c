#include "tape/layers.h"

/* Multiples of 256 because the weight gradient is continued over the chunks, in
 * blocks of 256 (rule 1): so the size of chunks changes no bit. */
int64_t hb_head_chunk_rows(int64_t elements, int64_t V)
{
    int64_t blocks = elements / (256 * V);
    return 256 * (blocks > 1 ? blocks : 1);
}

static hb_status head_input(struct hb_tape *tape, struct hb_entry *entry)
{
    struct hb_buffer *dx = entry->saved[0];
    entry->saved_count = 0; /* the reference moves on */
    return hb_var_contribute(tape, entry->in[0], entry->in[0]->grad_dtype, dx);
}

static const struct hb_entry_kind head_kind = {"head", head_input, NULL, NULL};

hb_status hb_tape_head(struct hb_tape *tape, struct hb_var *x, struct hb_param *weight, int use,
                       struct hb_tensor labels, float factor, struct hb_tensor loss)
{
    int64_t n = x->value.shape[0], V = weight->value.shape[0],
            rows = hb_head_chunk_rows(tape->head_elements, V);
    bool gradient = hb_tape_recording(tape);
    struct hb_buffer *logits_buffer = NULL, *dx_buffer = NULL;
    struct hb_tensor logits, dx = {0};
    struct hb_entry *entry;
    struct hb_leaf leaf = {0};
    hb_status status;
    if (rows > n)
        rows = n;
    HB_TRY_CLEAN(hb_tape_scratch(tape, hb_real_dtype(tape->context), 2, (int64_t[]){rows, V}, &logits_buffer,
                                 &logits));
    if (gradient) {
        HB_TRY_CLEAN(hb_var_grad_buffer(tape, x, &dx_buffer, &dx));
        HB_TRY_CLEAN(hb_leaf_begin(tape->gradients, weight, use, tape->microbatch, rows >= n, &leaf));
    }
    for (int64_t begin = 0; begin < n; begin += rows) {
        int64_t count = n - begin < rows ? n - begin : rows;
        struct hb_tensor x_chunk = hb_tensor_rows(x->value, begin, count);
        struct hb_tensor chunk = hb_tensor_rows(logits, 0, count);
        HB_TRY_CLEAN(hb_product(tape->context, &(struct hb_product_args){.form = HB_PRODUCT_NT,
                                                                         .a = x_chunk,
                                                                         .b = weight->value,
                                                                         .out = chunk}));
        HB_TRY_CLEAN(hb_cross_entropy(tape->context,
                                      &(struct hb_cross_entropy_args){.logits = chunk,
                                                                      .labels = hb_tensor_rows(labels, begin,
                                                                                               count),
                                                                      .loss = hb_tensor_rows(loss, begin,
                                                                                             count),
                                                                      .gradient = gradient,
                                                                      .factor = factor}));
        if (!gradient)
            continue;
        HB_TRY_CLEAN(hb_product(tape->context, &(struct hb_product_args){.form = HB_PRODUCT_NN,
                                                                         .a = chunk,
                                                                         .b = weight->value,
                                                                         .out = hb_tensor_rows(dx, begin,
                                                                                               count)}));
        HB_TRY_CLEAN(hb_product(tape->context,
                                &(struct hb_product_args){.form = HB_PRODUCT_TN,
                                                          .epilogue = begin ? HB_CONTINUE : leaf.epilogue,
                                                          .a = chunk,
                                                          .b = x_chunk,
                                                          .out = leaf.out}));
    }
    if (gradient) {
        HB_TRY_CLEAN(hb_leaf_end(tape->gradients, weight, use, &leaf));
        HB_TRY_CLEAN(hb_tape_record(tape, &head_kind, 1, &x, 0, NULL, &entry));
        hb_entry_save(entry, hb_buffer_share(dx_buffer));
    }
cleanup:
    hb_pool_drop(&tape->pool, logits_buffer);
    hb_pool_drop(&tape->pool, dx_buffer);
    return status;
}
