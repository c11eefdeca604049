/* Shared memory of the block that runs. */
#ifndef HB_EMULATOR_SHARED_H
#define HB_EMULATOR_SHARED_H

#include <stdbool.h>
#include <stddef.h>

/* An object of a block: a SHARED, or the dynamic bytes. */
struct hb_shared_object {
    const void *place; /* of its declaration; NULL: the dynamic bytes */
    const char *name, *file;
    int line;
    char *data;
    size_t bytes;
};

/* A block begins: no objects but its dynamic bytes; all memory is NaN bytes. */
void hb_shared_begin(size_t dynamic_bytes);

/* Does shared memory hold the address; the object around it, or NULL (a gap). */
bool hb_shared_holds(const void *address);
const struct hb_shared_object *hb_shared_find(const void *address);
/* The last object that begins before the address, or NULL. */
const struct hb_shared_object *hb_shared_before(const void *address);

/* Bytes of all shared memory, gaps included; how far into it an address lies. */
size_t hb_shared_size(void);
size_t hb_shared_offset(const void *address);

#endif
