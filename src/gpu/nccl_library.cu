#include "gpu/nccl_library.h"

#include "gpu/memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#if HB_GPU_NCCL

/* Non-blocking communicators came with this one. */
static const int OLDEST = 21400;

static hb_status open_library(void **object)
{
#ifdef __CUDACC__
    const char *name = "libnccl.so.2";
#else
    const char *name = getenv("HB_EMULATED_NCCL");
    if (!name)
        return HB_FAIL(HB_EUNSUPPORTED, HB_GPU_NAME ": an emulated device has no NCCL");
#endif
    *object = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!*object)
        return HB_FAIL(HB_EUNSUPPORTED, HB_GPU_NAME ": NCCL cannot be loaded (%s)", dlerror());
    return HB_OK;
}

template <typename F> static bool find(void *object, const char *name, F *function)
{
    *function = reinterpret_cast<F>(dlsym(object, name));
    return *function != NULL;
}

static hb_status find_functions(void *object, struct nccl *n)
{
    int version = 0;
    bool found = find(object, "ncclGetVersion", &n->get_version) &&
                 n->get_version(&version) == ncclSuccess && version >= OLDEST &&
                 find(object, "ncclGetUniqueId", &n->get_id) &&
                 find(object, "ncclCommInitRankConfig", &n->init) &&
                 find(object, "ncclCommDestroy", &n->destroy) && find(object, "ncclCommAbort", &n->abort) &&
                 find(object, "ncclCommGetAsyncError", &n->get_error) &&
                 find(object, "ncclGroupStart", &n->group_start) &&
                 find(object, "ncclGroupEnd", &n->group_end) && find(object, "ncclSend", &n->send) &&
                 find(object, "ncclRecv", &n->recv) && find(object, "ncclGetErrorString", &n->text);
    if (!found)
        return HB_FAIL(HB_EUNSUPPORTED, HB_GPU_NAME ": this NCCL (%d) is older than 2.14", version);
    snprintf(n->about, sizeof n->about, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return HB_OK;
}

hb_status HB_GPU(nccl_load)(const struct nccl **out)
{
    static struct nccl functions;
    static bool loaded;
    void *object;
    if (!loaded) {
        HB_TRY(open_library(&object));
        hb_status status = find_functions(object, &functions);
        if (status != HB_OK) {
            dlclose(object);
            return status;
        }
        loaded = true;
    }
    *out = &functions;
    return HB_OK;
}

#ifdef __CUDACC__
extern "C" hb_status hb_cuda_messages(const char **about)
{
    const struct nccl *nccl;
    HB_TRY(HB_GPU(nccl_load)(&nccl));
    *about = nccl->about;
    return HB_OK;
}
#endif

#else

hb_status HB_GPU(nccl_load)(const struct nccl **)
{
    return HB_FAIL(HB_EUNSUPPORTED, HB_GPU_NAME ": built without NCCL");
}

extern "C" hb_status hb_cuda_messages(const char **)
{
    const struct nccl *nccl;
    return HB_GPU(nccl_load)(&nccl);
}

#endif
