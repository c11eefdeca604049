/* adamw: Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv
 * 1711.05101, algorithm 2), fp32, with the digest of the new parameters.
 *
 * If found[0] != 0 nothing is read or written: the step is skipped. Else
 *   g = (grad inv_scale) coef
 *   m = fmaf(beta1, m, (1 - beta1) g)
 *   v = fmaf(beta2, v, ((1 - beta2) g) g)
 *   param = fmaf(-step_size, m / (sqrt(v) / root2 + eps), param keep)
 * where the caller computes in fp64, rounded once to fp32: keep = 1 - lr decay
 * (1 without decay), step_size = lr / (1 - beta1^s), root2 = sqrt(1 - beta2^s),
 * s = the number of the update; 1 - beta1 and 1 - beta2 likewise.
 *
 * chunk_hash (optional): param is a stack of G equal logical tensors of c
 * elements; hash number g ceil(c / 4096) + i is XXH3-64 of the new values of
 * elements [4096 i, 4096 i + 4096) of tensor g (numerics.md rule 22). It is made
 * while the chunk is in cache.
 *
 * param, grad, m and v do not share memory.
 *
 * Shapes: param, grad, m, v fp32, equal counts; coef fp32 [1]; found i32 [1];
 * chunk_hash i64 [G ceil(c / 4096)]. Bytes: 28 a parameter. */
#ifndef HB_OPS_ADAMW_H
#define HB_OPS_ADAMW_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_adamw_args {
    struct hb_tensor param; /* updated */
    struct hb_tensor grad;  /* read */
    struct hb_tensor m;     /* updated */
    struct hb_tensor v;     /* updated */
    struct hb_tensor coef;  /* fp32 [1] */
    struct hb_tensor found; /* i32 [1] */
    float inv_scale;
    float keep;
    float beta1, one_minus_beta1;
    float beta2, one_minus_beta2;
    float step_size;
    float root2;
    float eps;
    int64_t groups;              /* G >= 1 */
    struct hb_tensor chunk_hash; /* data NULL: no digest this step */
};

HB_MUST_USE hb_status hb_adamw(struct hb_context *context, const struct hb_adamw_args *args);

#endif
