/* A step of the article's loss scaler as its code is written (docs/loss-scaling.md):
 *
 *     if not_finite(loss): scale /= 2; loss = backward(loss * scale)
 *     else:                scale = min(scale * 2, max_scale)
 *
 * followed by the optimizer's step. A finite loss is never back-propagated: there
 * are no gradients and nothing changes. One that is not finite is, and its
 * gradients are applied. */
#ifndef HB_TRAIN_LITERAL_H
#define HB_TRAIN_LITERAL_H

#include "train/step.h"

/* As hb_step with its arguments, but that all microbatches are filled on every rank;
 * verdict.nonfinite says that the loss was not finite. */
HB_MUST_USE hb_status hb_step_literal(struct hb_stepper *stepper, const struct hb_batch *batches,
                                      int64_t microbatches, float scale, bool digest,
                                      struct hb_step_report *report);

#endif
