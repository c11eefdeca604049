/* What the ops finite and sum look for in a tensor: numbers that left the range. In finite.c. */
#ifndef HB_REF_EXTREMES_H
#define HB_REF_EXTREMES_H

#include "ref/ref.h"

/* Underflow: 0 < |x| < bound. `found` is or-ed into, `extremes` added to, where they are asked for. */
void HB_REF(find_extremes)(const struct hb_tensor *t, double bound, struct hb_tensor found,
                           struct hb_tensor extremes);

#endif
