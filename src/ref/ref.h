/* The reference backend's functions: hb_ref_<op> (float) and hb_ref64_<op>. */
#ifndef HB_REF_REF_H
#define HB_REF_REF_H

#include "ops/host.h"
#include "ops/table.h"
#include "ref/real.h"

#define HB_REF_DECLARE(op) \
    hb_status HB_REF(op)(struct hb_context * context, const struct hb_##op##_args *args);
HB_FOR_EACH_OP(HB_REF_DECLARE)
#undef HB_REF_DECLARE

#endif
