/* Why must a run end? The step that was not finite is run once more, and every
 * argument of every op is looked at (ops/nonfinite.h). */
#ifndef HB_TRAIN_DIAGNOSE_H
#define HB_TRAIN_DIAGNOSE_H

#include "train/step.h"

/* HB_ENONFINITE, with the first tensor that is not finite, its op, block, pass and
 * microbatch in the message; the same on all ranks, for whom it is collective. The
 * batches are those of the step that was just run at `scale`, whose update was skipped
 * or has spoilt the run anyway: the second time may be applied, too. */
HB_MUST_USE hb_status hb_diagnose(struct hb_stepper *stepper, const struct hb_batch *batches,
                                  int64_t microbatches, float scale);

#endif
