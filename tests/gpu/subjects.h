/* Kernels under test against `ref`, bit for bit: as cuda-emulated has them, and
 * with their checker (src/gpu/checked.so), which also looks for races, unwritten
 * reads and accesses out of range. HB_KERNELS names what is tested in place of both
 * (th_kernels): a device, or kernels with a mistake (tools/mutate-kernels). */
#ifndef HB_TESTS_GPU_SUBJECTS_H
#define HB_TESTS_GPU_SUBJECTS_H

#include "ops/harness.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "backends/plugin.h"
#include "backends/registry.h"
#include "ref/backend.h"

enum { SUBJECTS_MAX = 2 };

struct subjects {
    int count;
    const struct hb_backend *backend[SUBJECTS_MAX];
    struct hb_plugin plugin; /* stays loaded */
};

/* Skips the test where no kernels were built. */
static inline const struct subjects *subjects(void)
{
    static struct subjects s;
    if (s.count)
        return &s;
    const struct hb_backend *kernels = th_kernels();
    if (kernels)
        s.backend[s.count++] = kernels;
    char path[4096];
    const char *build = getenv("HB_BUILDDIR");
    snprintf(path, sizeof path, "%s/src/gpu/.libs/checked.so", build ? build : ".");
    if (getenv("HB_KERNELS"))
        return &s;
    if (access(path, R_OK) == 0) {
        TH_OK(hb_plugin_init(&s.plugin, path));
        s.backend[s.count++] = &s.plugin.backend;
    } else {
        print_message("%s was not built: without the checker\n", path);
    }
    if (!s.count)
        skip();
    return &s;
}

/* `long_case`: the checker, which is twenty times slower, sees it in make check-long only. */
static inline void same_bits(const char *label, th_run run, const void *data, bool long_case)
{
    const struct subjects *s = subjects();
    bool everything = getenv("HB_TEST_FULL");
    struct hb_context context;
    struct th_outputs expected = {0};
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &context));
    run(&context, data, &expected);
    hb_context_close(&context);
    for (int i = 0; i < s->count; i++) {
        if (long_case && !everything && strcmp(s->backend[i]->name, "cuda-checked") == 0)
            continue;
        char name[160];
        struct th_outputs got = {0};
        snprintf(name, sizeof name, "%s, %s", label, s->backend[i]->name);
        TH_OK(hb_context_open(s->backend[i], HB_CANONICAL, 1, &context));
        run(&context, data, &got);
        hb_context_close(&context);
        th_assert_same_bits(name, &expected, &got);
        th_outputs_release(&got);
    }
    th_outputs_release(&expected);
}

#endif
