#include "train/evaluate.h"

hb_status hb_evaluate(struct hb_stepper *stepper, struct hb_batches *batches, const struct hb_stream *stream,
                      int64_t samples, struct hb_evaluation *out)
{
    int64_t all = hb_stream_samples(stream);
    *out = (struct hb_evaluation){.samples = samples < all ? samples : all};
    double total = 0;
    for (int64_t first = 0; first < out->samples; first += batches->sequences) {
        int64_t rest = out->samples - first, labels;
        double sum;
        HB_TRY(hb_batches_fill_plain(batches, stream, first, rest < batches->sequences ? rest : batches->sequences));
        HB_TRY(hb_step_evaluate(stepper, batches->batch, 1, &sum, &labels));
        total = total + sum;
        out->labels += labels;
    }
    if (out->labels == 0)
        return HB_FAIL(HB_EARGUMENT, "the held-out data has no label in its first %lld samples",
                       (long long)out->samples);
    out->loss = total / (double)out->labels;
    return HB_OK;
}
