/* The FMA peak of this machine, measured beside what is compared with it:
 * a share of the peak means the same on every machine, a speed does not. */
#ifndef HB_OPS_PEAK_H
#define HB_OPS_PEAK_H

/* GFLOP/s of `threads` threads together in fp32, best of 5; 0 where it cannot be
 * measured. Takes a few milliseconds. */
double hb_peak_gflops(int threads);

#endif
