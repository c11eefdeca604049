#include "backends/registry.h"

#include <string.h>

#include "cpu/select.h"
#include "gpu/memory.h"
#include "ref/backend.h"
#include "strict/strict.h"

int hb_backend_list(struct hb_backend_listing out[8])
{
    int n = 0;
    out[n++] = (struct hb_backend_listing){"ref", &hb_backend_ref, NULL};
    out[n++] = (struct hb_backend_listing){"ref64", &hb_backend_ref64, NULL};
    const struct hb_backend *cpu = NULL, *strict = NULL;
    hb_status status = hb_cpu_select(&cpu);
    out[n++] = (struct hb_backend_listing){"cpu", cpu, status == HB_OK ? NULL : hb_error()};
    status = hb_strict_select(&strict);
    out[n++] = (struct hb_backend_listing){"strict", strict, status == HB_OK ? NULL : hb_error()};
#ifdef HB_HAVE_EMULATED
    out[n++] = (struct hb_backend_listing){"cuda-emulated", &hb_backend_emulated, NULL};
#else
    out[n++] = (struct hb_backend_listing){"cuda-emulated", NULL, "not built (no C++ compiler)"};
#endif
#ifdef HB_HAVE_CUDA
    out[n++] = (struct hb_backend_listing){"cuda", &hb_backend_cuda, NULL};
#else
    out[n++] = (struct hb_backend_listing){"cuda", NULL, "not built"};
#endif
    return n;
}

hb_status hb_backend_find(const char *name, const struct hb_backend **out)
{
    struct hb_backend_listing all[8];
    int n = hb_backend_list(all);
    for (int i = 0; i < n; i++)
        if (strcmp(name, all[i].name) == 0) {
            if (!all[i].backend)
                return HB_FAIL(HB_EUNSUPPORTED, "backend %s: %s", name, all[i].why_not);
            *out = all[i].backend;
            return HB_OK;
        }
    return HB_FAIL(HB_EARGUMENT,
                   "backend %s is unknown; there are ref, ref64, cpu, strict, cuda-emulated and cuda", name);
}

hb_status hb_backend_available(const char *name)
{
    const struct hb_backend *backend;
    HB_TRY(hb_backend_find(name, &backend));
#ifdef HB_HAVE_CUDA
    if (backend == &hb_backend_cuda)
        return hb_cuda_find_device();
#endif
    return HB_OK;
}

hb_status hb_backend_messages(const char *name, const char **carrier)
{
    const struct hb_backend *backend;
    HB_TRY(hb_backend_find(name, &backend));
#ifdef HB_HAVE_CUDA
    if (backend == &hb_backend_cuda)
        return hb_cuda_messages(carrier);
#endif
    *carrier = NULL;
    return HB_FAIL(HB_EUNSUPPORTED, "%s: nothing of its own", name);
}
