/* Weights in a folder of Hugging Face's form: config.json and model.safetensors,
 * or shards with model.safetensors.index.json.
 *
 * Tensors go by the logical names of the parameters (tape/param.h). The experts
 * of a layer may also come fused, as transformers 5 holds them in memory:
 *     mlp.experts.gate_up_proj [E, 2 F, C], rows 0 .. F - 1 of an expert are its gate
 *     mlp.experts.down_proj    [E, C, F]
 * Our own tensors that transformers does not know (router bias, selection bias)
 * stand beside their router: mlp.gate.bias, mlp.gate.e_score_correction_bias. */
#ifndef HB_MODEL_WEIGHTS_H
#define HB_MODEL_WEIGHTS_H

#include "core/file_receipt.h"
#include "model/model.h"

/* Fills the parameters of a model, made for the folder's config.json (the
 * caller reads it), from fp32, bf16 or fp16.
 *
 * Everything is checked before the first byte is copied: HB_EFORMAT names a
 * tensor that is missing, or one that the model has no place for (stored rotary
 * frequencies are passed over); HB_ESHAPE one of another shape. A tied model may
 * come with lm_head.weight if it is a copy of the embedding, byte for byte. */
HB_MUST_USE hb_status hb_model_load(struct hb_model *model, const char *folder);

/* Writes config.json and model.safetensors (weights as they are stored, one tensor per expert) into a
 * folder, made if need be; each file appears wholly or not at all. `weights`,
 * the receipt of model.safetensors, may be NULL. */
HB_MUST_USE hb_status hb_model_save(const struct hb_model *model, const char *folder,
                                    struct hb_file_receipt *weights);

/* Which round of the file a parameter comes in, within it in the model's order: fp32 first,
 * so that 16-bit tensors of odd sizes misalign none. */
enum { HB_SAVED_ROUNDS = 2 };
int hb_saved_round(const struct hb_param *param);

/* The beginning of it, for weights that are on several ranks: writes config.json
 * and declares all tensors of an outlined model; the caller writes them round by
 * round, and finishes. */
struct hb_safetensors_writer;
HB_MUST_USE hb_status hb_model_save_begin(const struct hb_model *model, const char *folder,
                                          struct hb_safetensors_writer **writer);

#endif
