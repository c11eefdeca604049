/* The learning rate of an update.
 *
 * Update s (from 1) of S planned ones, w = ceil(warmup S) warm-up updates
 * (rows T4, T5 of the mission; Loshchilov & Hutter 2017, arXiv 1608.03983):
 *   s <= w:  peak s / w
 *   else:    low + (peak - low) (1 + cos(pi (s - w) / (S - w))) / 2
 * with low = peak final. In fp64 with our own cosine, so that every machine
 * gets the same bits. Updates beyond S keep `low`. */
#ifndef HB_TRAIN_SCHEDULE_H
#define HB_TRAIN_SCHEDULE_H

#include <stdint.h>

struct hb_rate_schedule {
    double peak;
    double warmup; /* share of the updates, 0 to 1 */
    double final;  /* the lowest rate as a share of the peak */
    int64_t updates; /* S */
};

double hb_rate_at(const struct hb_rate_schedule *schedule, int64_t update);

#endif
