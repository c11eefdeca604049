/* Microbatches out of a stream of samples.
 *
 * Sample number of sequence j in microbatch m of step s (all from 0):
 *   (s M + m) S + j
 * through the stream's order. So what a step sees depends on nothing but its
 * number. */
#ifndef HB_TRAIN_BATCHES_H
#define HB_TRAIN_BATCHES_H

#include "data/stream.h"
#include "model/carry.h"

struct hb_batches {
    int64_t microbatches, sequences, tokens; /* M, S, T */
    struct hb_batch *batch;                  /* [M] */
    int32_t *ids, *labels, *segments;        /* memory of all of them */
    int32_t *piece;                          /* one sample's segments */
};

HB_MUST_USE hb_status hb_batches_init(struct hb_batches *batches, int64_t microbatches, int64_t sequences,
                                      int64_t tokens);
void hb_batches_release(struct hb_batches *batches);

/* Fills the microbatches of step `step`: all, or those `wanted` [M]; the others
 * have no tokens. */
HB_MUST_USE hb_status hb_batches_fill(struct hb_batches *batches, const struct hb_stream *stream,
                                      int64_t step, const bool *wanted);

/* Fills microbatch `m` with the samples first .. first + count - 1 in file order,
 * count <= S, and makes it that short: for evaluation. */
HB_MUST_USE hb_status hb_batches_fill_plain(struct hb_batches *batches, const struct hb_stream *stream,
                                            int64_t m, int64_t first, int64_t count);

#endif
