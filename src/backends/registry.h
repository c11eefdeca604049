/* Which backends there are. */
#ifndef HB_BACKENDS_REGISTRY_H
#define HB_BACKENDS_REGISTRY_H

#include "ops/backend.h"

/* Finds "ref", "ref64", "cpu", "strict", "cuda-emulated", "cuda"; a name that is not built is refused, with
 * the list of those that are. */
HB_MUST_USE hb_status hb_backend_find(const char *name, const struct hb_backend **out);

/* Is what the backend needs there: for "cuda" a device? The message says what is missing. */
HB_MUST_USE hb_status hb_backend_available(const char *name);

/* The library by which ranks of a device's backend send to each other by themselves, "NCCL 2.28.3"; the
 * message says why they go through the host. */
HB_MUST_USE hb_status hb_backend_messages(const char *name, const char **carrier);

/* The i-th backend by name, for listings; NULL after the last. A backend that
 * is known but was not built has `backend` NULL and says why. */
struct hb_backend_listing {
    const char *name;
    const struct hb_backend *backend;
    const char *why_not;
};
int hb_backend_list(struct hb_backend_listing out[8]);

#endif
