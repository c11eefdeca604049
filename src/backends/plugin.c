#include "backends/plugin.h"

#include <dlfcn.h>
#include <fenv.h>
#include <string.h>

#include "backends/registry.h"
#include "core/float_environment.h"
#include "ops/table.h"

static void inherit_memory(const struct hb_backend *base, struct hb_backend *out)
{
    out->open = base->open;
    out->close = base->close;
    out->alloc = base->alloc;
    out->free = base->free;
    out->copy_in = base->copy_in;
    out->copy_out = base->copy_out;
    out->copy = base->copy;
    out->zero = base->zero;
    out->sync = base->sync;
    out->join = base->join;
    out->mark_absent = base->mark_absent;
    out->read_absent = base->read_absent;
    out->host_memory = base->host_memory;
    out->unpooled = base->unpooled;
}

/* How many of the nine functions of life and memory are there. */
static int memory_functions(const struct hb_backend *b)
{
    return !!b->open + !!b->close + !!b->alloc + !!b->free + !!b->copy_in + !!b->copy_out + !!b->copy +
           !!b->zero + !!b->sync;
}

hb_status hb_plugin_resolve(const struct hb_backend *exported, const char *path, struct hb_backend *out)
{
    if (exported->api_version != HB_BACKEND_API)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: speaks interface version %u, this library version %d; rebuild it", path,
                       exported->api_version, HB_BACKEND_API);
    if (!exported->name || !exported->about)
        return HB_FAIL(HB_EFORMAT, "%s: " HB_PLUGIN_SYMBOL " has no %s", path,
                       exported->name ? "about" : "name");
    *out = *exported;
    if (exported->base) {
        const struct hb_backend *base;
        hb_status status = hb_backend_find(exported->base, &base);
        if (status != HB_OK)
            return hb_fail_in(status, "%s: base", path);
        if (strcmp(exported->base, "strict") == 0) /* its memory is closed to other people's ops */
            return HB_FAIL(HB_EUNSUPPORTED, "%s: base must not be strict; take cpu or ref", path);
        hb_backend_inherit(exported, base, out);
        if (memory_functions(exported) == 0)
            inherit_memory(base, out);
        if (!out->storage)
            out->storage = base->storage;
    }
    if (memory_functions(out) != 9)
        return HB_FAIL(HB_EFORMAT,
                       "%s: %d of the 9 functions of life and memory; give all, or none and a base", path,
                       memory_functions(exported));
    if (!out->storage)
        return HB_FAIL(HB_EFORMAT, "%s: storage names no dtype", path);
    return HB_OK;
}

static hb_status load(struct hb_plugin *plugin, const char *path)
{
    plugin->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->handle)
        return HB_FAIL(HB_EIO, "cannot load backend %s", dlerror());
    HB_TRY(hb_float_environment_check(path));
    const struct hb_backend *exported = dlsym(plugin->handle, HB_PLUGIN_SYMBOL);
    if (!exported)
        return HB_FAIL(HB_EFORMAT, "%s: exports no struct hb_backend named " HB_PLUGIN_SYMBOL, path);
    return hb_plugin_resolve(exported, path, &plugin->backend);
}

hb_status hb_plugin_init(struct hb_plugin *plugin, const char *path)
{
    fenv_t before;
    *plugin = (struct hb_plugin){0};
    HB_TRY(hb_float_environment_check("before the backend was loaded"));
    fegetenv(&before);
    hb_status status = load(plugin, path);
    if (status == HB_OK)
        return HB_OK;
    hb_plugin_release(plugin);
    fesetenv(&before);
    return status;
}

void hb_plugin_release(struct hb_plugin *plugin)
{
    if (plugin->handle)
        dlclose(plugin->handle);
    *plugin = (struct hb_plugin){0};
}
