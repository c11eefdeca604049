#include "train/literal.h"

#include <math.h>

hb_status hb_step_literal(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, float scale,
                          bool digest, struct hb_step_report *report)
{
    double sum;
    struct hb_step_report forward = {0};
    HB_TRY(hb_step_evaluate(s, batches, M, 0, &sum, &forward.labels));
    if (!isfinite(sum)) {
        /* The scale is halved before this backward. */
        HB_TRY(hb_step(s, batches, M, scale / 2, digest, report));
        report->verdict.nonfinite = true;
        return HB_OK;
    }
    for (int64_t m = 0; m < M; m++)
        forward.tokens += batches[m].tokens;
    forward.loss = sum / (double)forward.labels;
    forward.verdict.learning_rate = hb_rate_at(&s->optimizer->config.schedule, s->optimizer->applied + 1);
    *report = forward;
    return digest ? hb_optimizer_digest(s->optimizer, true, report->digest) : HB_OK;
}
