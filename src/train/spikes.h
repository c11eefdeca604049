/* Spikes: a step whose loss or gradient norm lies far outside those of the steps
 * before it is skipped, as one that is not finite (the idea of llm.c's outlier
 * detector).
 *
 *   z = (x - mean) / sd     over the last W values of steps that were finite,
 *                           sd the population's; nothing is judged before there
 *                           are W of them, or when sd is 0
 * A step is a spike when z(loss) or z(norm) exceeds its limit. Spikes enter the
 * window too: a new level is a spike only for a while. In fp64, sums from the
 * oldest value to the newest, so that the verdict is the same everywhere and
 * after a restart. */
#ifndef HB_TRAIN_SPIKES_H
#define HB_TRAIN_SPIKES_H

#include <stdbool.h>
#include <stdint.h>

enum { HB_SPIKE_WINDOW_MAX = 1024 };

struct hb_spike_rule {
    int64_t window;         /* W; 0: no rule */
    double loss, grad_norm; /* limits of z; 0: this one is not judged */
};

/* The last values, oldest first. */
struct hb_spike_window {
    int64_t count;
    double value[HB_SPIKE_WINDOW_MAX];
};

struct hb_spikes {
    struct hb_spike_rule rule;
    struct hb_spike_window loss, grad_norm; /* what a checkpoint keeps */
};

/* z of x against the window; 0 while there is nothing to judge by. */
double hb_spike_z(const struct hb_spike_window *window, int64_t size, double x);

/* Judges a finite step and adds it to the windows. */
bool hb_spikes_judge(struct hb_spikes *spikes, double loss, double grad_norm);

#endif
