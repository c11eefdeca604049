#include "train/schedule.h"

#include "core/math64.h"

/* ceil for what fits an int64_t, without a libm call. */
static int64_t round_up(double x)
{
    int64_t whole = (int64_t)x;
    return (double)whole < x ? whole + 1 : whole;
}

double hb_rate_at(const struct hb_rate_schedule *schedule, int64_t update)
{
    const double pi = 3.141592653589793;
    int64_t S = schedule->updates, w = round_up(schedule->warmup * (double)S);
    double low = schedule->peak * schedule->final;
    if (update <= w)
        return schedule->peak * (double)update / (double)w;
    if (update >= S)
        return low;
    double turn = pi * (double)(update - w) / (double)(S - w);
    return low + (schedule->peak - low) * (1 + hb_cos64(turn)) / 2;
}
