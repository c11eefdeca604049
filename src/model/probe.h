/* One microbatch looked at closely: everything that somebody who checks his own
 * code against this one wants to see.
 *
 * Input, a safetensors file:
 *     input_ids  i64 [B,T]
 *     labels     i64 [B,T], optional: what each token is, as Hugging Face takes it:
 *                row t is scored against labels[t+1], and -100 means no label
 * Output, a safetensors file. "real" is F32, and F64 on the backend ref64:
 *     logits            real [B,T,V]
 *     aux_loss          F64 [], if the model has a balance loss (carry: kinds `hf`, `layer`)
 *     z_loss            F64 [], if router_z_loss_coef is not 0 (a key of ours)
 *     ce_loss, loss     F64 [], if there are labels: the mean cross-entropy over the
 *                       labels, and ce_loss + router_aux_loss_coef aux_loss + z's part
 *     hidden_states     real [L+1,B,T,C], on request, as output_hidden_states of transformers
 *                       has it: the embedding, after each layer but the last, and after
 *                       the final norm
 *     router_index      I64 [MoE layers, B T, K], on request: the experts, the most probable first
 *     router_weight     real, same shape: their weights
 *     grad.NAME         real, on request: d loss / d tensor NAME, one tensor per expert; a tied
 *                       matrix has one, under the embedding's name
 * The B sequences are independent; each begins at position 0. */
#ifndef HB_MODEL_PROBE_H
#define HB_MODEL_PROBE_H

#include "model/model.h"

struct hb_probe_input {
    int64_t sequences, length; /* B, T */
    int32_t *ids;              /* [B T], owned */
    int32_t *labels;           /* [B T], owned, shifted: what the row predicts or -100; NULL: none */
    int64_t label_count;       /* labels that count */
};

/* HB_EFORMAT, HB_ESHAPE, HB_EARGUMENT name the tensor and the element. */
HB_MUST_USE hb_status hb_probe_input_read(const char *path, int64_t vocabulary, struct hb_probe_input *input);
void hb_probe_input_release(struct hb_probe_input *input);

struct hb_probe {
    struct hb_model *model;
    int64_t sequences, length;
    /* set by the caller, before the run */
    bool want_hidden, want_router, want_gradients;
    /* found; the gradients are in the parameters' use[0].root */
    struct hb_tensor logits;        /* [B T, V] */
    struct hb_tensor hidden;        /* [L+1, B T, C] */
    struct hb_tensor router_index;  /* i32 [MoE layers, B T, K] */
    struct hb_tensor router_weight; /* [MoE layers, B T, K] */
    bool has_loss, has_aux, has_z;
    double ce_loss, aux_loss, z_loss, loss;
};

/* Runs a model that was made for at least T positions (and `trained`, when
 * gradients are wanted). Release the probe whatever comes back. */
HB_MUST_USE hb_status hb_probe_run(struct hb_probe *probe, struct hb_model *model,
                                   const struct hb_probe_input *input);
void hb_probe_release(struct hb_probe *probe);

HB_MUST_USE hb_status hb_probe_write(const struct hb_probe *probe, const char *path);

#endif
