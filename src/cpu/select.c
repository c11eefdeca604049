#include "cpu/select.h"

#include <stdlib.h>
#include <string.h>

static struct hb_cpu_level levels[] = {
    {"base", &hb_cpu_base_backend, true},
#ifdef HB_HAVE_AVX2
    {"avx2", &hb_cpu_avx2_backend, false},
#endif
#ifdef HB_HAVE_AVX512
    {"avx512", &hb_cpu_avx512_backend, false},
#endif
};
enum { LEVELS = sizeof levels / sizeof levels[0] };

int hb_cpu_levels(const struct hb_cpu_level **out)
{
    for (int i = 0; i < LEVELS; i++) {
#ifdef HB_HAVE_AVX2
        if (strcmp(levels[i].name, "avx2") == 0)
            levels[i].usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef HB_HAVE_AVX512
        if (strcmp(levels[i].name, "avx512") == 0)
            levels[i].usable = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                               __builtin_cpu_supports("fma");
#endif
    }
    *out = levels;
    return LEVELS;
}

hb_status hb_cpu_select(const struct hb_backend **out)
{
    const struct hb_cpu_level *all;
    int count = hb_cpu_levels(&all);
    const char *wanted = getenv("HB_CPU_LEVEL");
    for (int i = count - 1; i >= 0; i--) {
        if (wanted && strcmp(wanted, all[i].name) != 0)
            continue;
        if (all[i].usable) {
            *out = all[i].backend;
            return HB_OK;
        }
        if (wanted)
            return HB_FAIL(HB_EUNSUPPORTED, "HB_CPU_LEVEL=%s: this processor does not have it", wanted);
    }
    return HB_FAIL(HB_EARGUMENT, "HB_CPU_LEVEL=%s: unknown; levels of this build: base%s%s",
                   wanted ? wanted : "", count > 1 ? ", avx2" : "", count > 2 ? ", avx512" : "");
}
