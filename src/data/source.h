/* Documents out of files, one after the other, in an order that depends on
 * nothing but the names: the inputs in the order given, and inside a folder
 * (searched recursively, hidden names left out, links to folders not followed)
 * the files by their whole path, bytewise.
 *
 * NAME.jsonl holds one record a line: {"text": "...", "id": ...}, of which
 * "id" (text or whole number) and all other keys are optional; blank lines are
 * nothing. Any other file is text: one document, or several when it holds lines
 * that consist of exactly <|endoftext|> (with or without a carriage return);
 * those lines belong to no document. Either may be compressed, NAME.gz or
 * NAME.zst. A byte order mark at the start of a file is dropped; every other
 * byte is kept. Documents without text are counted and left out.
 *
 * Memory: one document (or line), of at most `limit` bytes, and its parse. */
#ifndef HB_DATA_SOURCE_H
#define HB_DATA_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define HB_DOCUMENT_LIMIT ((size_t)256 << 20)

struct hb_source_options {
    const char *const *inputs; /* files and folders */
    size_t input_count;
    bool skip_invalid; /* count broken documents and go on, instead of failing at the first */
    size_t limit;      /* bytes of a document or a line; 0 = HB_DOCUMENT_LIMIT */
};

/* Valid until the next call on the source. */
struct hb_document {
    const char *id; /* the record's own, else "path", "path#2" (a later piece), "path:12" (a line) */
    const unsigned char *text; /* valid UTF-8, may hold NUL, is not ended by one */
    size_t size;
    size_t input; /* which of the inputs it came from */
};

struct hb_source_counts {
    int64_t files;
    int64_t empty;            /* documents without text */
    int64_t invalid;          /* skipped: not UTF-8, or a line that is no record */
    char first_invalid[1024]; /* the message of the first of them */
};

struct hb_source;

/* Lists the files. The inputs must outlive the source. HB_EARGUMENT: an input
 * that is neither file nor folder (a pipe cannot be read twice), or no file at all. */
HB_MUST_USE hb_status hb_source_create(const struct hb_source_options *options, struct hb_source **out);

/* The next document; `*end` says that there is none left. HB_EFORMAT names
 * file and line or byte of a document that is not valid UTF-8, of a line that
 * is no record, or of a document beyond the limit (the last is never skipped,
 * and neither are damaged archives). */
HB_MUST_USE hb_status hb_source_next(struct hb_source *source, struct hb_document *document, bool *end);

/* So far; valid as long as the source. */
const struct hb_source_counts *hb_source_counts(const struct hb_source *source);

/* NULL is allowed. */
void hb_source_destroy(struct hb_source *source);

#endif
