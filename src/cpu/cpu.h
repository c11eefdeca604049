/* The fast CPU backend's functions at this file's instruction-set level. */
#ifndef HB_CPU_CPU_H
#define HB_CPU_CPU_H

#include "cpu/isa.h"
#include "ops/host.h"
#include "ops/table.h"

#define HB_CPU_DECLARE(op) \
    hb_status HB_CPU(op)(struct hb_context * context, const struct hb_##op##_args *args);
HB_FOR_EACH_OP(HB_CPU_DECLARE)
#undef HB_CPU_DECLARE

#endif
