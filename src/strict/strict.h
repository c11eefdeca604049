/* `strict`: a host backend whose memory imitates a device's, so that mistakes
 * between host and device show without a device. Arithmetic, and so every bit,
 * is that of the backend beneath it (`cpu`). It finds, by op and argument:
 *
 *   host memory given as a tensor          refused
 *   device memory read on the host         a fault on the spot: outside of calls the memory has no access
 *   memory used before it is written       it is filled with NaN bytes
 *   memory used after it is freed          refused, or NaN bytes
 *   a tensor longer than its memory        refused
 *   copies with the ends swapped, or across the end of a block
 *   an input that an op changed            compared after every call
 *   a write outside a tensor's block       guards around every block
 *
 * What goes wrong in free() comes back at the next call. */
#ifndef HB_STRICT_STRICT_H
#define HB_STRICT_STRICT_H

#include "ops/backend.h"

struct hb_strict {
    struct hb_backend backend; /* what contexts are opened on; first, because they find the rest by it */
    const struct hb_backend *inner;
};

/* `strict` over any backend in host memory; ops that it lacks are lacking here
 * too. Both stay where they are while a context is open. */
void hb_strict_init(struct hb_strict *strict, const struct hb_backend *inner);

/* `strict` over the `cpu` backend that this processor gets. */
HB_MUST_USE hb_status hb_strict_select(const struct hb_backend **out);

#endif
