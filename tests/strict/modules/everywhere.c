/* Loaded in front of a test (LD_PRELOAD), this lets it run on `strict` wherever it asks for
 * canonical `ref` or `cpu`, whose bits are the same: what would not do on a device is found. */
#define _GNU_SOURCE 1 /* RTLD_NEXT */
#include <dlfcn.h>

#include "cpu/select.h"
#include "ref/backend.h"
#include "strict/strict.h"

static bool on_the_host(const struct hb_backend *backend)
{
    const struct hb_cpu_level *levels;
    for (int l = hb_cpu_levels(&levels) - 1; l >= 0; l--)
        if (levels[l].backend == backend)
            return true;
    return backend == &hb_backend_ref;
}

hb_status hb_context_open(const struct hb_backend *backend, enum hb_numerics numerics, int threads,
                          struct hb_context *context)
{
    static _Thread_local bool inside; /* strict opens the backend beneath it */
    hb_status (*open_context)(const struct hb_backend *, enum hb_numerics, int, struct hb_context *);
    *(void **)&open_context = dlsym(RTLD_NEXT, "hb_context_open");
    if (!inside && numerics == HB_CANONICAL && on_the_host(backend))
        HB_TRY(hb_strict_select(&backend));
    inside = true;
    hb_status status = open_context(backend, numerics, threads, context);
    inside = false;
    return status;
}
