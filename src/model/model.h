/* A decoder-only language model of Qwen3's shape: an ordered list of blocks
 * (embedding, decoders, head) over one list of parameters.
 *
 * Forward of a microbatch runs the blocks in order over a carry: what a block
 * reads from its neighbours and hands on. Nothing else passes between blocks,
 * so that a pipeline can send the carry. */
#ifndef HB_MODEL_MODEL_H
#define HB_MODEL_MODEL_H

#include "model/carry.h"
#include "model/config.h"
#include "tape/layers.h"
#include "tape/moe.h"

struct hb_model;

struct hb_block {
    const char *name; /* "embedding", "decoder", "head" */
    int64_t layer;    /* of a decoder, else 0 */
    hb_status (*forward)(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                         struct hb_carry *carry);
};

/* The parameters of one decoder, pointers into the model's list. */
struct hb_decoder {
    struct hb_param *input_norm, *q, *k, *v, *o, *q_norm, *k_norm, *post_norm;
    struct hb_attention_layer attention; /* with its memory */
    struct hb_param *gate, *up, *down; /* of a dense layer */
    struct hb_moe moe;                 /* of an expert layer */
    bool is_moe;
};

/* What a rank holds of a model: some of its blocks, and of every expert layer
 * among them some experts. Names and numbers stay those of the whole. */
struct hb_model_part {
    const bool *blocks;                 /* [L + 2]; NULL: all */
    int64_t first_expert, expert_count; /* of E */
};

/* Which activations are made again in backward instead of kept; no bit depends on it. */
enum hb_recompute_kind {
    HB_RECOMPUTE_NONE,
    /* values that cost one pass over memory: norms, rope, SwiGLU, gathered expert rows */
    HB_RECOMPUTE_SELECTIVE,
    HB_RECOMPUTE_EVERY,     /* all but the input of decoders 0, k, 2 k, ... */
    HB_RECOMPUTE_FULL,      /* the same of every decoder */
};
struct hb_recompute {
    enum hb_recompute_kind kind;
    int64_t every; /* k */
};

struct hb_model {
    struct hb_context *context;
    struct hb_model_config config;
    struct hb_model_part part; /* everything, unless it was made as a part */
    bool *own_blocks;          /* owned copy behind part.blocks */
    struct hb_param **params; /* owned, in block order */
    int64_t param_count, param_capacity;
    struct hb_param *embedding, *final_norm, *head; /* head == embedding when tied; NULL in parts without */
    int head_use;                                   /* which use of its parameter the head is */
    struct hb_decoder *decoders;                    /* [L] */
    struct hb_block *blocks;                        /* [L + 2] */
    int64_t block_count;
    struct hb_tensor cosine, sine; /* rotary tables, fp32 [P, D/2] */
    struct hb_recompute recompute; /* the caller may set it between microbatches */
};

/* The model without memory: the names, shapes and blocks of `part` (copied;
 * NULL: everything). */
HB_MUST_USE hb_status hb_model_outline(struct hb_context *context, const struct hb_model_config *config,
                                       const struct hb_model_part *part, struct hb_model **out);
/* Its parameters, uninitialised, and tables for positions 0 .. P - 1. `trained`
 * adds gradients and moments. */
HB_MUST_USE hb_status hb_model_allocate(struct hb_model *model, int64_t positions, bool trained);
bool hb_model_has_block(const struct hb_model *model, int64_t block);

/* Both of a whole model. */
HB_MUST_USE hb_status hb_model_create(struct hb_context *context, const struct hb_model_config *config,
                                      int64_t positions, bool trained, struct hb_model **out);
void hb_model_destroy(struct hb_model *model);

/* Matrices and embeddings N(0, initializer_range), element i of logical tensor
 * `name` from (seed, INIT, name, i); norms 1; biases 0. */
HB_MUST_USE hb_status hb_model_initialise(struct hb_model *model, uint64_t seed);

/* Number of trained parameters; of those that one token uses. */
int64_t hb_model_parameter_count(const struct hb_model *model);
int64_t hb_model_active_parameter_count(const struct hb_model *model);

/* Runs all blocks. carry->logits given: final logits of the rows it asks for;
 * otherwise the loss per row, and with a recording tape everything backward
 * needs. */
HB_MUST_USE hb_status hb_model_forward(const struct hb_model *model, struct hb_tape *tape,
                                       struct hb_carry *carry);
/* The same for blocks [begin, end), which must be there: a stage of a pipeline.
 * carry->residual comes from the block before and goes to the one behind. */
HB_MUST_USE hb_status hb_model_forward_blocks(const struct hb_model *model, struct hb_tape *tape,
                                              struct hb_carry *carry, int64_t begin, int64_t end);
/* Inputs and weights of everything on the tape. */
HB_MUST_USE hb_status hb_model_backward(const struct hb_model *model, struct hb_tape *tape);

/* For hb_model_outline, _allocate and _destroy (parameters.c). */
hb_status hb_model_add_parameters(struct hb_model *model);
hb_status hb_model_allocate_parameters(struct hb_model *model, bool trained);
void hb_model_release_parameters(struct hb_model *model);

/* Blocks (each one a page: embedding_block.c, decoder_block.c, head_block.c). */
hb_status hb_embedding_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                             struct hb_carry *carry);
hb_status hb_decoder_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                           struct hb_carry *carry);
hb_status hb_head_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                        struct hb_carry *carry);

#endif
