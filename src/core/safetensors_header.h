/* The header of a safetensors file, parsed and checked against the size of the
 * file. Private to the reader and the writer. */
#ifndef HB_CORE_SAFETENSORS_HEADER_H
#define HB_CORE_SAFETENSORS_HEADER_H

#include <jansson.h>

#include "core/dtype.h"
#include "core/status.h"
#include "core/tensor.h"

/* The format's own limit for the JSON part. */
#define HB_SAFETENSORS_HEADER_MAX 100000000u

struct hb_safetensors_entry {
    const char *name;
    const char *dtype_name;     /* as in the file */
    int dtype;                  /* enum hb_dtype, or -1: known only by name */
    size_t rank;                /* may exceed HB_RANK_MAX; `shape` is then cut */
    int64_t shape[HB_RANK_MAX]; /* unused entries are 1 */
    int64_t count;
    size_t begin, end; /* bytes, from the start of the data */
};

struct hb_safetensors_header {
    json_t *root;                         /* owns the names */
    const json_t *metadata;               /* NULL if there is none */
    struct hb_safetensors_entry *entries; /* by ascending offset */
    size_t count;
    const unsigned char *data;
};

/* `path` serves the messages. On failure nothing is left to release. */
HB_MUST_USE hb_status hb_safetensors_header_init(struct hb_safetensors_header *header, const char *path,
                                                 const unsigned char *file, size_t size);
void hb_safetensors_header_release(struct hb_safetensors_header *header);

/* "F32" for HB_F32, and so on. */
const char *hb_safetensors_dtype_name(enum hb_dtype dtype);

#endif
