/* adamw: Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv
 * 1711.05101, algorithm 2), in fp32, with the digest of the new parameters.
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
 * Where the model stores its weights in 16 bits, there are two ways (numerics.md rules 8 and 11):
 *   masters     param is fp32; stored, bf16 or fp16, becomes param rounded to nearest even
 *   no masters  param is bf16 or fp16: widened, updated in fp32 and rounded once, to
 *               nearest even or, with `names`, stochastically (hb_bf16_of_f32_random,
 *               hb_f16_of_f32_random of core/dtype.h): element i of part g takes 32-bit
 *               word first + i of the stream of core/philox.h with this key and the
 *               subject names[g]. The caller makes both: the key of (seed,
 *               HB_PURPOSE_ROUND, attempted step), hb_hash64_name of each logical tensor
 * A skipped step leaves stored alone too.
 *
 * chunk_hash (optional): param is a stack of G equal logical tensors of c
 * elements; hash number g ceil(c / 4096) + i is XXH3-64 of the new values of
 * elements [4096 i, 4096 i + 4096) of tensor g, widened (numerics.md rule 22). It is
 * made while the chunk is in cache.
 *
 * param, grad, m, v and stored do not share memory.
 *
 * Shapes: param, grad, m, v, stored of equal counts; param and grad storage types, m and
 * v fp32; coef fp32 [1]; found i32 [1]; names i64 [G]; chunk_hash i64 [G ceil(c / 4096)].
 * Bytes: 28 a parameter in fp32, 2 more with stored. */
#ifndef HB_OPS_ADAMW_H
#define HB_OPS_ADAMW_H

#include "core/status.h"
#include "core/tensor.h"

struct hb_context;

struct hb_adamw_args {
    struct hb_tensor param;  /* updated: masters, or weights without masters */
    struct hb_tensor grad;   /* read */
    struct hb_tensor m;      /* updated */
    struct hb_tensor v;      /* updated */
    struct hb_tensor stored; /* of fp32 masters: their 16-bit copy, stored; data NULL: none */
    struct hb_tensor coef;   /* fp32 [1] */
    struct hb_tensor found;  /* i32 [1] */
    float inv_scale;
    float keep;
    float beta1, one_minus_beta1;
    float beta2, one_minus_beta2;
    float step_size;
    float root2;
    float eps;
    int64_t groups;              /* G >= 1 */
    struct hb_tensor names;      /* of 16-bit param: round stochastically; data NULL: to nearest even */
    int64_t key;                 /* of the random streams: struct hb_random's key[0] | key[1] << 32 */
    int64_t first;               /* element of its logical tensor at which each part begins: 0, or a shard's
                                    first chunk times 4096 */
    struct hb_tensor chunk_hash; /* data NULL: no digest this step */
};

HB_MUST_USE hb_status hb_adamw(struct hb_context *context, const struct hb_adamw_args *args);

#endif
