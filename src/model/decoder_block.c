/* A decoder: attention and feed-forward, each on a normalised copy of the
 * residual stream and added back to it.
 *
 *   a = RMSNorm(x);  q, k, v = a Wq^T, a Wk^T, a Wv^T
 *   q, k = rope(RMSNorm per head(q)), rope(RMSNorm per head(k))
 *   h = x + attention(q, k, v, memory) Wo^T
 *   b = RMSNorm(h);  x' = h + FFN(b)
 *   FFN: SwiGLU of three products, or the expert layer
 *
 * Source: Qwen3 (arXiv 2505.09388), Hugging Face models/qwen3_moe. Every value
 * named here is rounded once to the storage type of its class when produced
 * (tape/precision.h): a, q, k, v (q and k after the norm and after rope), the
 * attention's output, b and the FFN's inner values are activations; the two
 * branches' results and h are the residual stream, x' is a block's output; the
 * rows that go to experts are dispatched, those that come back combined.
 * hb_var_forget marks those that are cheap to make again (tape/recompute.h). */
#include "model/model.h"
#include "tape/recompute.h"

/* Keys and values of this microbatch go to those of the cache; attention then
 * reads the cache. Generation only: nothing is recorded. */
static hb_status through_cache(struct hb_tape *tape, const struct hb_attention_layer *layer, int64_t number,
                               struct hb_carry *carry, struct hb_var *q, struct hb_var *k, struct hb_var *v,
                               struct hb_var **out)
{
    struct hb_attention_layer cached = *layer;
    struct hb_cache_view view;
    HB_TRY(hb_cache_put(carry->cache, tape, number, k->value, v->value, &view));
    struct hb_var keys = {.value = view.k, .references = 1}, values = {.value = view.v, .references = 1};
    cached.ring = view.ring;
    hb_status status = hb_tape_attention(tape, &cached, &carry->positions, q, &keys, &values, out);
    hb_cache_done(tape, &view);
    return status;
}

static hb_status attention(const struct hb_model *model, const struct hb_decoder *d, int64_t layer,
                           struct hb_tape *tape, struct hb_carry *carry, struct hb_var *x,
                           struct hb_var **out)
{
    float eps = (float)model->config.rms_norm_eps;
    int64_t D = d->attention.head_width;
    struct hb_var *a = NULL, *raw[3] = {NULL, NULL, NULL}, *q = NULL, *k = NULL, *mixed = NULL;
    hb_status status;
    HB_TRY_CLEAN(hb_tape_rmsnorm(tape, x, d->input_norm, eps, &a));
    HB_TRY_CLEAN(
        hb_tape_linears(tape, a, 3, (struct hb_param *[]){d->q, d->k, d->v}, HB_CLASS_ACTIVATION, raw));
    HB_TRY_CLEAN(hb_tape_rmsnorm(tape, raw[0], d->q_norm, eps, &q));
    HB_TRY_CLEAN(hb_tape_rmsnorm(tape, raw[1], d->k_norm, eps, &k));
    HB_TRY_CLEAN(hb_tape_rope(tape, q, D, &carry->positions));
    HB_TRY_CLEAN(hb_tape_rope(tape, k, D, &carry->positions));
    if (carry->cache)
        HB_TRY_CLEAN(through_cache(tape, &d->attention, layer, carry, q, k, raw[2], &mixed));
    else
        HB_TRY_CLEAN(hb_tape_attention(tape, &d->attention, &carry->positions, q, k, raw[2], &mixed));
    HB_TRY_CLEAN(hb_tape_linears(tape, mixed, 1, &(struct hb_param *){d->o}, HB_CLASS_RESIDUAL, out));
cleanup:
    hb_var_forget(tape, a);
    for (int i = 0; i < 3; i++)
        hb_var_drop(tape, raw[i]);
    hb_var_forget(tape, q);
    hb_var_forget(tape, k);
    hb_var_drop(tape, mixed);
    return status;
}

static hb_status dense_ffn(const struct hb_decoder *d, struct hb_tape *tape, struct hb_var *b,
                           struct hb_var **out)
{
    struct hb_var *gate_up[2] = {NULL, NULL}, *hidden = NULL;
    hb_status status;
    HB_TRY_CLEAN(
        hb_tape_linears(tape, b, 2, (struct hb_param *[]){d->gate, d->up}, HB_CLASS_ACTIVATION, gate_up));
    HB_TRY_CLEAN(hb_tape_swiglu(tape, gate_up[0], gate_up[1], &hidden));
    HB_TRY_CLEAN(hb_tape_linears(tape, hidden, 1, &(struct hb_param *){d->down}, HB_CLASS_RESIDUAL, out));
cleanup:
    hb_var_drop(tape, gate_up[0]);
    hb_var_drop(tape, gate_up[1]);
    hb_var_forget(tape, hidden);
    return status;
}

hb_status hb_decoder_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                           struct hb_carry *carry)
{
    const struct hb_decoder *d = &model->decoders[block->layer];
    struct hb_var *x = carry->residual, *mixed = NULL, *h = NULL, *b = NULL, *ffn = NULL, *y = NULL;
    hb_status status;
    HB_TRY_CLEAN(attention(model, d, block->layer, tape, carry, x, &mixed));
    HB_TRY_CLEAN(hb_tape_add(tape, x, mixed, HB_CLASS_RESIDUAL, &h));
    HB_TRY_CLEAN(hb_tape_rmsnorm(tape, h, d->post_norm, (float)model->config.rms_norm_eps, &b));
    if (d->is_moe)
        HB_TRY_CLEAN(hb_tape_moe(tape, b, &d->moe, &carry->balance,
                                 carry->choices ? &carry->choices[d->moe.layer] : NULL, &ffn));
    else
        HB_TRY_CLEAN(dense_ffn(d, tape, b, &ffn));
    HB_TRY_CLEAN(hb_tape_add(tape, h, ffn, HB_CLASS_BLOCK, &y));
    carry->residual = y;
    hb_var_drop(tape, x);
cleanup:
    hb_var_drop(tape, mixed);
    hb_var_drop(tape, h);
    hb_var_forget(tape, b);
    hb_var_drop(tape, ffn);
    return status;
}
