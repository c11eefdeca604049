/* Attention under numerics: fast: its products on tensor cores, where q, k, v (and
 * slots, dout) are all bf16 or all fp16. P and dS are rounded to that type before
 * their products; scores, sums and statistics stay fp32. */
#ifndef HB_GPU_ATTENTION_FAST_H
#define HB_GPU_ATTENTION_FAST_H

#include "gpu/attention_backward.h"
#include "gpu/attention_forward.h"

/* HB_BF16 or HB_F16, if this device multiplies these tensors so; else HB_F32: the canonical kernels are to do
 * it. */
int HB_GPU(fast_type)(const struct attention &a, const struct array *dout);

hb_status HB_GPU(fast_forward)(struct hb_context *context, const struct forward_call &c, int64_t rows,
                               int type);
hb_status HB_GPU(fast_dq)(struct hb_context *context, const struct backward_call &c, int type);
hb_status HB_GPU(fast_dkdv)(struct hb_context *context, const struct backward_call &c, dim3 grid, int part,
                            int type);

#endif
