/* Held-out loss: mean cross-entropy over the labels of the first samples of a
 * stream, in file order. Perplexity is its exponential. */
#ifndef HB_TRAIN_EVALUATE_H
#define HB_TRAIN_EVALUATE_H

#include "train/batches.h"
#include "train/step.h"

struct hb_evaluation {
    int64_t samples, labels;
    double loss; /* nats per label */
};

/* At most `samples` samples, S at a time (batches->sequences). Sums are made
 * per batch of S and added in order, so the result depends on S, as a
 * microbatch's does, and on nothing else. */
HB_MUST_USE hb_status hb_evaluate(struct hb_stepper *stepper, struct hb_batches *batches,
                                  const struct hb_stream *stream, int64_t samples, struct hb_evaluation *out);

#endif
