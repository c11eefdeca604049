/* `cpu`: the fast backend, at the best instruction-set level that both the
 * build and this processor have. */
#ifndef HB_CPU_SELECT_H
#define HB_CPU_SELECT_H

#include <stdbool.h>

#include "ops/backend.h"

extern const struct hb_backend hb_cpu_base_backend;
#ifdef HB_HAVE_AVX2
extern const struct hb_backend hb_cpu_avx2_backend;
#endif
#ifdef HB_HAVE_AVX512
extern const struct hb_backend hb_cpu_avx512_backend;
#endif

struct hb_cpu_level {
    const char *name; /* "base", "avx2", "avx512" */
    const struct hb_backend *backend;
    bool usable; /* on this processor */
};

/* All levels of this build, best last. */
int hb_cpu_levels(const struct hb_cpu_level **out);

/* The best usable level, or the one that HB_CPU_LEVEL in the environment names
 * (refused if unknown or not usable here). */
HB_MUST_USE hb_status hb_cpu_select(const struct hb_backend **out);

#endif
