/* The scalar type of the reference backend.
 *
 * Every file of this folder is compiled twice: with float it defines the bits
 * of canonical numerics (backend `ref`); with double (HB_REF_DOUBLE) the same
 * text is the truth that gradient checks and error bounds use (`ref64`). One
 * operator is one rounding; sums of products say real_fma. */
#ifndef HB_REF_REAL_H
#define HB_REF_REAL_H

#include <math.h>

#include "core/math.h"
#include "core/math64.h"
#include "core/tensor.h"
#include "core/tree.h"
#include "ops/backend.h"

#if defined(__FAST_MATH__)
#error "fast-math changes the bits: build without -ffast-math and -Ofast"
#endif

#ifdef HB_REF_DOUBLE
typedef double real;
#define HB_REF(name) hb_ref64_##name
#define real_fma fma
#define real_sqrt sqrt
#define real_exp hb_exp64
#define real_log hb_log64
#define real_sigmoid hb_sigmoid64
#define real_tree_sum hb_tree_sum_f64
#else
typedef float real;
#define HB_REF(name) hb_ref_##name
#define real_fma fmaf
#define real_sqrt sqrtf
#define real_exp hb_expf
#define real_log hb_logf
#define real_sigmoid hb_sigmoidf
#define real_tree_sum hb_tree_sum_f32
#endif

/* Element i of a tensor in its storage type, widened to real; and back, rounded
 * once. This is the only place where storage meets arithmetic. */
static inline real load(const struct hb_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case HB_F64:
        return (real)((const double *)t->data)[i];
    case HB_BF16:
        return (real)hb_f32_of_bf16(((const uint16_t *)t->data)[i]);
    case HB_F16:
        return (real)hb_f32_of_f16(((const uint16_t *)t->data)[i]);
    default:
        return (real)((const float *)t->data)[i];
    }
}

static inline void store(const struct hb_tensor *t, int64_t i, real x)
{
    switch (t->dtype) {
    case HB_F64:
        ((double *)t->data)[i] = (double)x;
        break;
    case HB_BF16:
        ((uint16_t *)t->data)[i] = hb_bf16_of_f32((float)x);
        break;
    case HB_F16:
        ((uint16_t *)t->data)[i] = hb_f16_of_f32((float)x);
        break;
    default:
        ((float *)t->data)[i] = (float)x;
    }
}

/* Sum of the 32 lanes of a row: a tree 16, 8, 4, 2, 1 (numerics.md rule 3). */
static inline real lanes_sum(real lane[32])
{
    for (int s = 16; s > 0; s /= 2)
        for (int l = 0; l < s; l++)
            lane[l] = lane[l] + lane[l + s];
    return lane[0];
}

#endif
