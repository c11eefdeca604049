#include "data/shuffle.h"

#include "core/philox.h"

enum { ROUNDS = 8 };

static uint32_t mix(const struct hb_random *stream, uint64_t right)
{
    uint32_t words[4];
    hb_random_u32x4(stream, right, words);
    return words[0];
}

/* The least h >= 1 with 2^(2h) >= n. */
static int half_width(uint64_t n)
{
    int h = 1;
    while (h < 32 && (uint64_t)1 << 2 * h < n)
        h++;
    return h;
}

uint64_t hb_shuffle(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position)
{
    int h = half_width(n);
    uint64_t mask = ((uint64_t)1 << h) - 1;
    struct hb_random streams[ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        streams[round] = hb_random_stream(seed, HB_PURPOSE_SHUFFLE, epoch, (uint64_t)round);
    do {
        uint64_t left = position >> h, right = position & mask;
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (mix(&streams[round], right) & mask);
            left = right;
            right = next;
        }
        position = left << h | right;
    } while (position >= n);
    return position;
}
