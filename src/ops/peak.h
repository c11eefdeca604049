/* What this machine can do at the moment, measured beside what is compared with it: its FMA
 * peak (a share of it means the same on every machine, a speed does not), and how far apart
 * its processors are. */
#ifndef HB_OPS_PEAK_H
#define HB_OPS_PEAK_H

/* GFLOP/s of `threads` threads together in fp32, best of 5; 0 where it cannot be
 * measured. Takes a few milliseconds. */
double hb_peak_gflops(int threads);

/* Nanoseconds until a cache line that the first of `threads` threads wrote reaches the last one,
 * best of several tries; 0 for one thread. It tells whether the two have a cache in common at the moment:
 * a virtual machine's processors move, and where they have none, activations travel farther. */
double hb_handover_ns(int threads);

#endif
