/* What a library linked with -Ofast does to the thread that loads it: denormal
 * numbers are flushed to zero from then on. Otherwise a blameless backend. */
#include "ops/backend.h"

#if defined __SSE2__
#include <immintrin.h>
static void flush_denormals(void)
{
    _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ, DAZ */
}
#elif defined __aarch64__
static void flush_denormals(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (UINT64_C(1) << 24))); /* FZ */
}
#else
#include <fenv.h>
static void flush_denormals(void)
{
    fesetround(FE_UPWARD); /* no flush here; another broken promise */
}
#endif

__attribute__((constructor)) static void loaded(void)
{
    flush_denormals();
}

const struct hb_backend hb_backend_plugin = {
    .api_version = HB_BACKEND_API,
    .name = "flush",
    .base = "ref",
    .about = "changes the floating-point environment when it is loaded",
};
