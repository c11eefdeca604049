/* Elementary functions in fp64, our own: the C library's differ in bits with
 * the processor and the version, ours use nothing but + - * / and fma.
 *
 * They serve whatever must be the same everywhere outside of the fp32 kernels
 * (RoPE tables, learning rate, bias correction, initialisation) and the double
 * form of `ref`, which is the truth of gradient checks. Exactness comes before
 * speed (5 to 20 ns a call).
 *
 * Largest errors seen, in units in the last place (tests/core/math64.c
 * compares with long double and asserts them):
 *
 *     hb_exp64 0.52    hb_sin64 0.73    hb_tanh64    0.57    hb_pow64 0.52
 *     hb_log64 0.51    hb_cos64 0.73    hb_sigmoid64 2.30    hb_erf64 1.10
 *
 * NaN gives NaN. Denormal arguments and results are right, but a denormal
 * result is rounded twice (at most 1 unit). */
#ifndef HB_CORE_MATH64_H
#define HB_CORE_MATH64_H

double hb_exp64(double x);

/* Natural logarithm; 0 gives -infinity, negative numbers NaN. */
double hb_log64(double x);

/* |x| <= 2^30 (more than any position times frequency); NaN beyond, where the
 * reduction modulo pi/2 would no longer be exact enough to be a promise. */
double hb_sin64(double x);
double hb_cos64(double x);

/* x^y for x >= 0 (NaN for x < 0, also where y is an integer). x^0 = 1^y = 1
 * for every y and x that is not NaN, 0^y = 0 for y > 0 and infinity for y < 0. */
double hb_pow64(double x, double y);

double hb_tanh64(double x);
double hb_erf64(double x);

/* 1 / (1 + e^-x) */
double hb_sigmoid64(double x);

#endif
