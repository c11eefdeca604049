#include "ops/finite.h"

#include "cpu/cpu.h"
#include "cpu/row.h"

enum { BLOCK = 8192 };

/* Exponent bits all set, as a maximum over the bits without the sign: the
 * compiler has a vector instruction for that, and no float rule can drop it. */
static bool all_finite(const float *x, int64_t n)
{
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = hb_bits_of_f32(x[i]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000u;
}

static bool all_finite_16(const uint16_t *x, int64_t n, uint16_t infinity)
{
    uint16_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits = x[i] & 0x7fff;
        largest = bits > largest ? bits : largest;
    }
    return largest < infinity;
}

static bool block_finite(const struct hb_tensor *x, int64_t begin, int64_t n)
{
    if (x->dtype == HB_F32)
        return all_finite((const float *)x->data + begin, n);
    return all_finite_16((const uint16_t *)x->data + begin, n, x->dtype == HB_BF16 ? 0x7f80 : 0x7c00);
}

/* What left the range, in a block. */
struct tally {
    int64_t overflow, underflow;
};

static struct tally tally_32(const float *x, int64_t n)
{
    uint32_t bound = hb_bits_of_f32((float)hb_underflow_bound(HB_F32)), large = 0, small = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = hb_bits_of_f32(x[i]) & 0x7fffffffu;
        large += bits >= 0x7f800000u;
        small += bits - 1 < bound - 1; /* zero becomes the largest number */
    }
    return (struct tally){large, small};
}

static struct tally tally_16(const uint16_t *x, int64_t n, uint16_t infinity, uint16_t bound)
{
    uint16_t large = 0, small = 0; /* a block has fewer numbers than 2^16 */
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits = x[i] & 0x7fff;
        large = (uint16_t)(large + (bits >= infinity));
        small = (uint16_t)(small + ((uint16_t)(bits - 1) < (uint16_t)(bound - 1)));
    }
    return (struct tally){large, small};
}

static struct tally block_tally(const struct hb_tensor *x, int64_t begin, int64_t n)
{
    float bound = (float)hb_underflow_bound(x->dtype);
    if (x->dtype == HB_F32)
        return tally_32((const float *)x->data + begin, n);
    if (x->dtype == HB_BF16)
        return tally_16((const uint16_t *)x->data + begin, n, 0x7f80, hb_bf16_of_f32(bound));
    return tally_16((const uint16_t *)x->data + begin, n, 0x7c00, hb_f16_of_f32(bound));
}

/* Every number is looked at. */
static void count(const struct hb_finite_args *args, int threads)
{
    int64_t n = hb_tensor_count(&args->x), *extremes = args->extremes.data, overflow = 0, underflow = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : overflow, underflow)
    for (int64_t block = 0; block < (n + BLOCK - 1) / BLOCK; block++) {
        struct tally tally = block_tally(&args->x, block * BLOCK, hb_at_most(n - block * BLOCK, BLOCK));
        overflow += tally.overflow;
        underflow += tally.underflow;
    }
    extremes[0] += overflow;
    extremes[1] += underflow;
    if (args->found.data && overflow)
        *(int32_t *)args->found.data = 1;
}

hb_status HB_CPU(finite)(struct hb_context *context, const struct hb_finite_args *args)
{
    int64_t n = hb_tensor_count(&args->x);
    int threads = hb_row_threads(context, n), found = 0;
    if (args->extremes.data) {
        count(args, threads);
        return HB_OK;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < (n + BLOCK - 1) / BLOCK; block++) {
        int64_t begin = block * BLOCK;
        if (__atomic_load_n(&found, __ATOMIC_RELAXED))
            continue;
        if (!block_finite(&args->x, begin, hb_at_most(n - begin, BLOCK)))
            __atomic_store_n(&found, 1, __ATOMIC_RELAXED);
    }
    if (found)
        *(int32_t *)args->found.data = 1;
    return HB_OK;
}
