#include "train/spikes.h"

#include <math.h>
#include <string.h>

double hb_spike_z(const struct hb_spike_window *w, int64_t size, double x)
{
    if (size < 1 || w->count < size)
        return 0;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < size; i++)
        mean = mean + w->value[i];
    mean = mean / (double)size;
    for (int64_t i = 0; i < size; i++)
        square = square + (w->value[i] - mean) * (w->value[i] - mean);
    double sd = sqrt(square / (double)size);
    return sd > 0 ? (x - mean) / sd : 0;
}

static void add(struct hb_spike_window *w, int64_t size, double x)
{
    if (w->count == size) {
        memmove(w->value, w->value + 1, (size_t)(size - 1) * sizeof w->value[0]);
        w->count--;
    }
    w->value[w->count++] = x;
}

bool hb_spikes_judge(struct hb_spikes *s, double loss, double grad_norm)
{
    const struct hb_spike_rule *r = &s->rule;
    bool spike = (r->loss > 0 && hb_spike_z(&s->loss, r->window, loss) > r->loss) ||
                 (r->grad_norm > 0 && hb_spike_z(&s->grad_norm, r->window, grad_norm) > r->grad_norm);
    add(&s->loss, r->window, loss);
    add(&s->grad_norm, r->window, grad_norm);
    return spike;
}
