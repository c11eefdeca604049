/* Entries for all storage types around kernels for fp32. */
#ifndef HB_CPU_WIDE_H
#define HB_CPU_WIDE_H

#include "cpu/cpu.h"

hb_status HB_CPU(attention_forward_any)(struct hb_context *context, const struct hb_attention_forward_args *args);
hb_status HB_CPU(attention_backward_any)(struct hb_context *context, const struct hb_attention_backward_args *args);

#endif
