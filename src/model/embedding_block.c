/* The first block: token ids to rows of the embedding. */
#include "model/model.h"

hb_status hb_embedding_block(const struct hb_model *model, const struct hb_block *block, struct hb_tape *tape,
                             struct hb_carry *carry)
{
    (void)block;
    return hb_tape_embedding(tape, model->embedding, 0, carry->ids, &carry->residual);
}
