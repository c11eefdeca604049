#include "train/evaluate.h"

hb_status hb_evaluate(struct hb_stepper *stepper, struct hb_batches *batches, const struct hb_stream *stream,
                      int64_t samples, struct hb_evaluation *out)
{
    int64_t all = hb_stream_samples(stream);
    *out = (struct hb_evaluation){.samples = samples < all ? samples : all};
    double total = 0;
    int64_t S = batches->sequences, most = stepper->ranks ? batches->microbatches : 1; /* at a time */
    for (int64_t first = 0; first < out->samples;) {
        int64_t labels, count = 0;
        double sum;
        for (; count < most && first < out->samples; count++, first += S) {
            int64_t rest = out->samples - first;
            HB_TRY(hb_batches_fill_plain(batches, stream, count, first, rest < S ? rest : S));
        }
        HB_TRY(hb_step_evaluate(stepper, batches->batch, count, total, &sum, &labels));
        total = sum;
        out->labels += labels;
    }
    if (out->labels == 0)
        return HB_FAIL(HB_EARGUMENT, "the held-out data has no label in its first %lld samples",
                       (long long)out->samples);
    out->loss = total / (double)out->labels;
    return HB_OK;
}
