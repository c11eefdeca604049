#include "core/philox.h"

#include <math.h>

#include "core/math64.h"
#include "core/philox_cipher.h"

void hb_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    hb_philox_cipher(counter, key, out);
}

struct hb_random hb_random_stream(uint64_t seed, enum hb_purpose purpose, uint64_t step, uint64_t subject)
{
    uint32_t counter[4] = {(uint32_t)step, (uint32_t)(step >> 32), (uint32_t)purpose, 0};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t mixed[4];
    hb_philox4x32_10(counter, key, mixed);
    return (struct hb_random){{mixed[0], mixed[1]}, subject};
}

void hb_random_u32x4(const struct hb_random *stream, uint64_t block, uint32_t out[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream->subject,
                           (uint32_t)(stream->subject >> 32)};
    hb_philox4x32_10(counter, stream->key, out);
}

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

uint64_t hb_random_u64(const struct hb_random *stream, uint64_t i)
{
    uint32_t words[4];
    hb_random_u32x4(stream, i / 2, words);
    return i % 2 ? join(words[2], words[3]) : join(words[0], words[1]);
}

double hb_random_uniform_f64(const struct hb_random *stream, uint64_t i)
{
    return (double)(hb_random_u64(stream, i) >> 11) * 0x1p-53;
}

void hb_random_normal_pair(const struct hb_random *stream, uint64_t pair, double out[2])
{
    uint32_t words[4];
    hb_random_u32x4(stream, pair, words);
    /* The first is in (0, 1], so that its logarithm is finite; 2^53 itself is exact. */
    double a = (double)((join(words[0], words[1]) >> 11) + 1) * 0x1p-53;
    double b = (double)(join(words[2], words[3]) >> 11) * 0x1p-53;
    double radius = sqrt(-2.0 * hb_log64(a));
    double angle = 0x1.921fb54442d18p+2 * b;
    out[0] = radius * hb_cos64(angle);
    out[1] = radius * hb_sin64(angle);
}

double hb_random_normal_f64(const struct hb_random *stream, uint64_t i)
{
    double two[2];
    hb_random_normal_pair(stream, i / 2, two);
    return two[i % 2];
}
