#include "emulator/shared.h"

#include <stdint.h>
#include <string.h>

#include "emulator/device.h"

/* Objects lie far apart, so that an index that is a row too large meets nobody. */
enum { OBJECTS = 32, GAP = 1024, POOL = HB_EMULATED_SHARED_BYTES + (OBJECTS + 1) * GAP };

static struct {
    struct hb_shared_object object[OBJECTS];
    int count;
    size_t used, static_bytes;
    _Alignas(256) char pool[POOL];
} shared;

static struct hb_shared_object *add(const void *place, const char *name, size_t bytes, const char *file,
                                    int line)
{
    struct hb_shared_object *object = &shared.object[shared.count++];
    *object = (struct hb_shared_object){place, name, file, line, shared.pool + shared.used, bytes};
    memset(object->data, 0xff, bytes);
    shared.used += (bytes + 255) / 256 * 256 + GAP;
    return object;
}

void hb_shared_begin(size_t dynamic_bytes)
{
    shared.count = 0;
    shared.used = GAP;
    shared.static_bytes = 0;
    add(NULL, "dynamic shared memory", dynamic_bytes, "", 0);
}

void *hb_emulated_dynamic_shared(void)
{
    return shared.object[0].data;
}

void *hb_emulated_shared(const void *place, const char *name, size_t bytes, const char *file, int line)
{
    for (int i = 1; i < shared.count; i++)
        if (shared.object[i].place == place)
            return shared.object[i].data;
    shared.static_bytes += bytes;
    if (shared.count == OBJECTS)
        hb_emulated_give_up("more than %d SHARED objects at %s:%d", OBJECTS - 1, hb_emulated_file(file),
                            line);
    if (shared.static_bytes > HB_EMULATED_STATIC)
        hb_emulated_give_up("SHARED %s at %s:%d makes %zu bytes; a block has %d", name,
                            hb_emulated_file(file), line, shared.static_bytes, HB_EMULATED_STATIC);
    if (shared.static_bytes + shared.object[0].bytes > HB_EMULATED_SHARED_BYTES)
        hb_emulated_give_up("SHARED %s at %s:%d makes %zu bytes with the dynamic ones; a block has %d", name,
                            hb_emulated_file(file), line, shared.static_bytes + shared.object[0].bytes,
                            HB_EMULATED_SHARED_BYTES);
    return add(place, name, bytes, file, line)->data;
}

bool hb_shared_holds(const void *address)
{
    return (uintptr_t)address - (uintptr_t)shared.pool < POOL;
}

const struct hb_shared_object *hb_shared_find(const void *address)
{
    for (int i = 0; i < shared.count; i++)
        if ((uintptr_t)address - (uintptr_t)shared.object[i].data < shared.object[i].bytes)
            return &shared.object[i];
    return NULL;
}

const struct hb_shared_object *hb_shared_before(const void *address)
{
    const struct hb_shared_object *last = NULL;
    for (int i = 0; i < shared.count; i++)
        if (shared.object[i].data <= (const char *)address)
            last = &shared.object[i];
    return last;
}

size_t hb_shared_size(void)
{
    return POOL;
}

size_t hb_shared_offset(const void *address)
{
    return (size_t)((const char *)address - shared.pool);
}
