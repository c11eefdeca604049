/* Random numbers without state: Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
 * "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3), a
 * function from a 128-bit counter and a 64-bit key to 128 random bits.
 *
 * A number depends on what it is for, never on who computes it or when: on
 * the seed, the purpose, the step, the subject (hb_hash64_name of a tensor, or
 * the number of a sample) and the index within the subject.
 *
 *     key      = words 0, 1 of Philox(counter = {step low, step high, purpose, 0},
 *                                     key = {seed low, seed high})
 *     counter  = {block low, block high, subject low, subject high}
 *     random 32-bit word i of the stream = word i mod 4 of block i / 4
 *     random 64-bit word i = 32-bit words 2 i (low) and 2 i + 1 (high)
 *
 * The step and the purpose go through the cipher once more because five values
 * of 64 bits do not fit into counter and key. */
#ifndef HB_CORE_PHILOX_H
#define HB_CORE_PHILOX_H

#include <stdint.h>

/* Part of the numerics contract: never renumber. */
enum hb_purpose {
    HB_PURPOSE_INIT = 1,    /* initial weights; step 0, subject = name */
    HB_PURPOSE_SHUFFLE = 2, /* order of samples */
    HB_PURPOSE_SAMPLE = 3,  /* choice of the next token */
    HB_PURPOSE_ROUND = 4,   /* stochastic rounding; subject = name, index = global element */
    HB_PURPOSE_TEST = 5,
};

/* One stream; a value that holds nothing and may be copied. */
struct hb_random {
    uint32_t key[2];
    uint64_t subject;
};

/* The cipher itself. */
void hb_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

struct hb_random hb_random_stream(uint64_t seed, enum hb_purpose purpose, uint64_t step, uint64_t subject);

/* 32-bit words 4 block .. 4 block + 3 of the stream. */
void hb_random_u32x4(const struct hb_random *stream, uint64_t block, uint32_t out[4]);

/* 64-bit word i. */
uint64_t hb_random_u64(const struct hb_random *stream, uint64_t i);

/* Element i, uniform in [0, 1): the upper 53 bits of 64-bit word i. */
double hb_random_uniform_f64(const struct hb_random *stream, uint64_t i);

/* Elements 2 pair and 2 pair + 1 of the standard normal distribution, by Box
 * and Muller (1958) from the 64-bit words a, b of the same numbers:
 *     r = sqrt(-2 ln(((a >> 11) + 1) / 2^53)), t = 2 pi (b >> 11) / 2^53: r cos t, r sin t. */
void hb_random_normal_pair(const struct hb_random *stream, uint64_t pair, double out[2]);

/* Element i alone. */
double hb_random_normal_f64(const struct hb_random *stream, uint64_t i);

#endif
