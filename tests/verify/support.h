/* What the tests of verify share: paths in the trees, opened backends. */
#ifndef HB_TESTS_VERIFY_SUPPORT_H
#define HB_TESTS_VERIFY_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/registry.h"
#include "verify/folder.h"
#include "verify/verify.h"

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != HB_OK)                                                                                 \
            fail_msg("%s: %s (%s)", #call, hb_error(), hb_error_place());                                    \
    } while (0)

#define REFUSED(call, text)                                                                                  \
    do {                                                                                                     \
        assert_int_not_equal((call), HB_OK);                                                                 \
        if (!strstr(hb_error(), (text)))                                                                     \
            fail_msg("%s: '%s' does not say '%s'", #call, hb_error(), (text));                               \
    } while (0)

static inline const char *in_source(const char *name, char *path, size_t size)
{
    const char *source = getenv("HB_SRCDIR");
    snprintf(path, size, "%s/%s", source ? source : ".", name);
    return path;
}

static inline void open_backend(const char *name, enum hb_numerics numerics, struct hb_context *context)
{
    const struct hb_backend *backend;
    OK(hb_backend_find(name, &backend));
    OK(hb_context_open(backend, numerics, 1, context));
}

/* The first case of golden/ops with this op, label and storage type. */
static inline void open_case(const char *op, const char *label, enum hb_dtype dtype, struct hb_case *out)
{
    char folder[4096];
    struct hb_case_list list;
    bool found = false;
    OK(hb_case_list_init(&list, in_source("golden/ops", folder, sizeof folder)));
    for (int i = 0; i < list.count && !found; i++) {
        OK(hb_case_open(list.paths[i], out));
        found = strcmp(out->op->name, op) == 0 && strcmp(out->label, label) == 0 && out->dtype == dtype;
        if (!found)
            hb_case_close(out);
    }
    hb_case_list_release(&list);
    if (!found)
        fail_msg("golden/ops has no case '%s' of %s", label, op);
}

#endif
