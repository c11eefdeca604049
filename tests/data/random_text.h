/* Random bytes and random valid UTF-8 for property tests; the same on every run. */
#ifndef HB_TESTS_DATA_RANDOM_TEXT_H
#define HB_TESTS_DATA_RANDOM_TEXT_H

#include <stdint.h>

#include "data/buffer.h"
#include "data/unicode.h"

/* Below `n`. A linear congruential generator is enough for test inputs. */
static inline uint32_t draw(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

/* A scalar value: half of them from what tokenizers treat specially. */
static inline uint32_t draw_character(uint64_t *seed)
{
    static const uint32_t ranges[][2] = {
        {0, 0x80},        {0x20, 0x60},    {0x80, 0x250},    {0x300, 0x46},
        {0x1100, 0x100},  {0x2000, 0x30},  {0x3000, 0x100},  {0x4e00, 0x5000},
        {0xac00, 0x2ba4}, {0x1f600, 0x50}, {0xe000, 0x2000}, {0x10000, 0x100000},
    };
    uint32_t range = draw(seed, sizeof ranges / sizeof *ranges);
    return ranges[range][0] + draw(seed, ranges[range][1]);
}

/* Replaces `out` by `characters` random ones, some of them in runs. */
static inline hb_status draw_text(uint64_t *seed, size_t characters, struct hb_bytes *out)
{
    out->count = 0;
    HB_TRY(hb_bytes_reserve(out, 4 * characters + 4));
    while (characters) {
        uint32_t c = draw_character(seed);
        uint32_t run = draw(seed, 8) ? 1 : 1 + draw(seed, 12);
        for (; run && characters; run--, characters--)
            out->count += hb_utf8_put(c, out->data + out->count);
    }
    return HB_OK;
}

#endif
