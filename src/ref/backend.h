/* `ref`: canonical numerics in plain scalar C; it defines the bits.
 * `ref64`: the same text in double; the truth of gradient checks and bounds. */
#ifndef HB_REF_BACKEND_H
#define HB_REF_BACKEND_H

#include "ops/backend.h"

extern const struct hb_backend hb_backend_ref;
extern const struct hb_backend hb_backend_ref64;

#endif
