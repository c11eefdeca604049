/* The run's record: metrics.jsonl (a line a step, all digits of every number)
 * and the TensorBoard file beside it. */
#ifndef HB_TRAIN_METRICS_H
#define HB_TRAIN_METRICS_H

#include <stdio.h>

#include "train/expert_load.h"
#include "train/step.h"

struct hb_metrics {
    FILE *lines;
    FILE *tensorboard; /* NULL: not wanted */
    char path[4096];
};

/* One step's line. Fields that do not apply are left out of the file. */
struct hb_metrics_line {
    int64_t step;   /* attempted steps, from 1 */
    int64_t tokens; /* seen since the beginning of the run */
    const struct hb_step_report *report;
    double loss_scale;
    double tokens_per_second;
    bool evaluated;
    double held_out_loss;   /* nats per label */
    const struct hb_expert_load *experts; /* NULL: a dense model */
};

/* Keeps the leading lines of a file of JSON lines whose "step" is at most
 * `keep_steps`; a line cut short by a crash, and all behind it, go. */
HB_MUST_USE hb_status hb_metrics_trim(const char *path, int64_t keep_steps);

/* Opens RUN/metrics.jsonl for appending; lines after step `keep_steps` (of a
 * run that is resumed from there) are removed first. */
HB_MUST_USE hb_status hb_metrics_open(struct hb_metrics *metrics, const char *run_folder, int64_t keep_steps,
                                      bool tensorboard);
HB_MUST_USE hb_status hb_metrics_write(struct hb_metrics *metrics, const struct hb_metrics_line *line);
void hb_metrics_close(struct hb_metrics *metrics);

#endif
