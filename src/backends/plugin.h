/* A backend from a shared object, so that kernels of others can be verified.
 *
 * The object exports one symbol,
 *     const struct hb_backend hb_backend_plugin;
 * With a `base` ("cpu", "ref") it may leave out any ops, which the base then
 * does, and all of life and memory together with `storage`: the ops of both
 * work on the base's memory. Without a base it must bring life, memory and
 * storage; an op that it lacks is missed by name when somebody needs it. */
#ifndef HB_BACKENDS_PLUGIN_H
#define HB_BACKENDS_PLUGIN_H

#include "ops/backend.h"

#define HB_PLUGIN_SYMBOL "hb_backend_plugin"

struct hb_plugin {
    struct hb_backend backend; /* gaps filled */
    void *handle;              /* of the shared object */
};

/* Loads the object at `path`. HB_EFORMAT without the symbol, HB_EUNSUPPORTED for
 * another interface version or a changed floating-point environment (which is
 * put back), HB_EIO when the system cannot load it. */
HB_MUST_USE hb_status hb_plugin_init(struct hb_plugin *plugin, const char *path);

/* After every context on it is closed. */
void hb_plugin_release(struct hb_plugin *plugin);

/* What hb_plugin_init does with the symbol: version, base, completeness. `path`
 * serves the messages. */
HB_MUST_USE hb_status hb_plugin_resolve(const struct hb_backend *exported, const char *path,
                                        struct hb_backend *out);

#endif
