/* A file written in pieces that appears under its name wholly or not at all:
 * the bytes go to a temporary file beside it, and commit makes them durable
 * (fsync), renames and syncs the folder. Until then an older file of that name
 * is untouched; a writer destroyed without commit leaves nothing behind. */
#ifndef HB_CORE_FILE_WRITER_H
#define HB_CORE_FILE_WRITER_H

#include <stddef.h>

#include "core/status.h"

struct hb_file_writer;

HB_MUST_USE hb_status hb_file_writer_create(const char *path, struct hb_file_writer **out);

/* Appends. After a failure the writer can only be destroyed. */
HB_MUST_USE hb_status hb_file_writer_write(struct hb_file_writer *writer, const void *data, size_t size);

/* Ends the file. Call once; afterwards only destroy. */
HB_MUST_USE hb_status hb_file_writer_commit(struct hb_file_writer *writer);

/* NULL is allowed. */
void hb_file_writer_destroy(struct hb_file_writer *writer);

#endif
