/* NCCL, loaded when it is first needed, so that a program starts without it. */
#ifndef HB_GPU_NCCL_LIBRARY_H
#define HB_GPU_NCCL_LIBRARY_H

#include "gpu/queue.h"

/* Is its header there? configure says. The emulator has its own. */
#ifndef __CUDACC__
#define HB_GPU_NCCL 1
#include "gpu/nccl_emulated.h"
#elif defined(HB_HAVE_NCCL)
#define HB_GPU_NCCL 1
#include <nccl.h>
#else
#define HB_GPU_NCCL 0
#endif

#if HB_GPU_NCCL
struct nccl {
    char about[32]; /* "NCCL 2.28.3" */
    decltype(&ncclGetVersion) get_version;
    decltype(&ncclGetUniqueId) get_id;
    decltype(&ncclCommInitRankConfig) init;
    decltype(&ncclCommDestroy) destroy;
    decltype(&ncclCommAbort) abort;
    decltype(&ncclCommGetAsyncError) get_error;
    decltype(&ncclGroupStart) group_start;
    decltype(&ncclGroupEnd) group_end;
    decltype(&ncclSend) send;
    decltype(&ncclRecv) recv;
    decltype(&ncclGetErrorString) text;
};
#else
struct nccl;
#endif

/* The one of this process, which stays. HB_EUNSUPPORTED says what is missing. */
hb_status HB_GPU(nccl_load)(const struct nccl **out);

#endif
