/* The weights of a model whose parts many ranks have, in one file. */
#ifndef HB_TRAIN_WEIGHTS_RANKS_H
#define HB_TRAIN_WEIGHTS_RANKS_H

#include "core/file_receipt.h"
#include "train/optimizer.h"

/* Writes FOLDER/model.safetensors and config.json as hb_model_save does, from
 * rank 0, which receives the others' shards one after the other: no rank ever
 * holds more than a shard of one tensor. `receipt` is rank 0's. Collective: world. */
HB_MUST_USE hb_status hb_weights_save_ranks(struct hb_optimizer *optimizer, const char *folder,
                                            struct hb_file_receipt *receipt);

#endif
