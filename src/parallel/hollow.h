/* A backend without memory and without arithmetic: the program runs on it as on any other, and what it asks
 * for is counted. So a plan does not repeat the rules of the tape, of recompute and of storage types; it runs
 * them.
 *
 * Tensors have addresses that nobody may touch; copies out leave the host's memory as it is. */
#ifndef HB_PARALLEL_HOLLOW_H
#define HB_PARALLEL_HOLLOW_H

#include "ops/backend.h"

extern const struct hb_backend hb_hollow_backend;

/* Bytes asked for since the context was opened, by category; what was freed counts on. */
int64_t hb_hollow_bytes(const struct hb_context *context, enum hb_memory_category category);

#endif
