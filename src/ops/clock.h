/* Time per op, for `hornbook bench`: when a context carries a clock, every call
 * through src/ops adds its wall time. On an asynchronous backend that would be
 * the time to queue the work: there `waits` makes every call wait for its end. */
#ifndef HB_OPS_CLOCK_H
#define HB_OPS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { HB_OP_CLOCK_SLOTS = 48 };

struct hb_op_clock {
    bool waits;
    struct hb_op_clock_slot {
        const char *name; /* of the op, a string literal; NULL: free */
        int64_t calls;
        double seconds;
        double flops; /* as the op's page states them; 0 where they are not counted */
        double bytes; /* hb_op_bytes */
    } slots[HB_OP_CLOCK_SLOTS];
};

double hb_clock_now(void); /* seconds, monotonic */
void hb_op_clock_add(struct hb_op_clock *clock, const char *name, double seconds, double flops,
                     double bytes);

#endif
