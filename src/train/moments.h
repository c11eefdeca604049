/* The optimizer's moments and masters in a safetensors file.
 *
 * Per trained logical tensor NAME two flat fp32 tensors, `m.NAME` and `v.NAME`, and
 * where the weights have 16 bits and a master a third, `w.NAME`.
 * The text under "ranges" of __metadata__ is JSON, {"NAME": [begin, end], ...}:
 * which elements of NAME the file holds. One process holds them all; a shard
 * among several holds runs of whole chunks. Weights in fp32, which are
 * their own masters, stand in model.safetensors and are not repeated. */
#ifndef HB_TRAIN_MOMENTS_H
#define HB_TRAIN_MOMENTS_H

#include "core/file_receipt.h"
#include "train/optimizer.h"

#define HB_MOMENTS_FILE "optimizer-00000-of-00001.safetensors"

HB_MUST_USE hb_status hb_moments_save(const struct hb_optimizer *optimizer, const char *path,
                                      struct hb_file_receipt *receipt);

/* Are the file's tensors exactly those of this optimizer? HB_EFORMAT, HB_ESHAPE. */
HB_MUST_USE hb_status hb_moments_check(const struct hb_optimizer *optimizer, const char *path);

/* Checks, then fills the moments. */
HB_MUST_USE hb_status hb_moments_load(struct hb_optimizer *optimizer, const char *path);

#endif
