/* The optimizer's moments and masters in safetensors files: one of each rank that
 * saved them, optimizer-RRRRR-of-NNNNN.safetensors.
 *
 * Per trained logical tensor NAME of which the rank answers for elements, two flat
 * fp32 tensors, `m.NAME` and `v.NAME`, and where the weights have 16 bits and a
 * master a third, `w.NAME`. The text under "ranges" of __metadata__ is JSON,
 * {"NAME": [begin, end], ...}: which elements of NAME the file holds. Together the
 * files hold every element once, whatever the layout was, and any layout can take
 * from them what it needs. Weights in fp32, which are their own masters, stand in
 * model.safetensors and are not repeated. */
#ifndef HB_TRAIN_MOMENTS_H
#define HB_TRAIN_MOMENTS_H

#include "core/file_receipt.h"
#include "train/optimizer.h"

enum { HB_MOMENTS_NAME = 64 };
const char *hb_moments_file(int rank, int ranks, char text[HB_MOMENTS_NAME]);

/* This rank's file. Not collective. */
HB_MUST_USE hb_status hb_moments_save(const struct hb_optimizer *optimizer, const char *path,
                                      struct hb_file_receipt *receipt);

/* Are the moments in a checkpoint's folder exactly those of the model? HB_EFORMAT,
 * HB_ESHAPE. Not collective. */
HB_MUST_USE hb_status hb_moments_check(const struct hb_optimizer *optimizer, const char *folder);

/* Checks, then fills the moments of this rank. Not collective. */
HB_MUST_USE hb_status hb_moments_load(struct hb_optimizer *optimizer, const char *folder);

#endif
