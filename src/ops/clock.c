#include "ops/clock.h"

#include <string.h>
#include <time.h>

double hb_clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void hb_op_clock_add(struct hb_op_clock *clock, const char *name, double seconds, double flops,
                     double bytes)
{
    for (int i = 0; i < HB_OP_CLOCK_SLOTS; i++) {
        struct hb_op_clock_slot *slot = &clock->slots[i];
        if (!slot->name)
            slot->name = name;
        if (strcmp(slot->name, name) == 0) {
            slot->calls++;
            slot->seconds += seconds;
            slot->flops += flops;
            slot->bytes += bytes;
            return;
        }
    }
}
