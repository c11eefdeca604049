/* JSON through jansson: what its API leaves to every caller, in one place.
 *
 * Errors carry a place: "config.json:3:14: ..." from the parser, and
 * "config.json: key 'heads' must be an integer" from the getters, whose
 * `where` is any prefix the caller finds useful. A document nests at most 2048
 * deep (jansson's own limit), so hostile input cannot exhaust the stack. */
#ifndef HB_CORE_JSON_H
#define HB_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum {
    HB_JSON_ALLOW_NUL = 1, /* "\u0000" in strings: read them with json_string_length */
};

/* Reads one document, an object or an array; a key given twice is refused.
 * json_decref(*out) is the caller's. HB_EFORMAT, HB_EIO, HB_EMEMORY. */
HB_MUST_USE hb_status hb_json_load(const char *path, unsigned options, json_t **out);

/* The same from memory. `name` and `first_line` (1 for a whole file, the line
 * number for a line of JSONL) only serve the message. */
HB_MUST_USE hb_status hb_json_parse(const char *name, int64_t first_line, const char *text, size_t size,
                                    unsigned options, json_t **out);

/* The value under `key` of an object. HB_EFORMAT when it is missing or of
 * another type. Results that point into the document live as long as it. */
HB_MUST_USE hb_status hb_json_int(const json_t *object, const char *where, const char *key, int64_t *value);
HB_MUST_USE hb_status hb_json_real(const json_t *object, const char *where, const char *key, double *value);
HB_MUST_USE hb_status hb_json_bool(const json_t *object, const char *where, const char *key, bool *value);
HB_MUST_USE hb_status hb_json_string(const json_t *object, const char *where, const char *key,
                                     const char **value);
HB_MUST_USE hb_status hb_json_object(const json_t *object, const char *where, const char *key,
                                     json_t **value);
HB_MUST_USE hb_status hb_json_array(const json_t *object, const char *where, const char *key, json_t **value);

/* The same with a default for a key that is absent or null (Hugging Face
 * writes null for "not used"); a wrong type is still an error. */
HB_MUST_USE hb_status hb_json_int_or(const json_t *object, const char *where, const char *key, int64_t absent,
                                     int64_t *value);
HB_MUST_USE hb_status hb_json_real_or(const json_t *object, const char *where, const char *key, double absent,
                                      double *value);
HB_MUST_USE hb_status hb_json_bool_or(const json_t *object, const char *where, const char *key, bool absent,
                                      bool *value);
HB_MUST_USE hb_status hb_json_string_or(const json_t *object, const char *where, const char *key,
                                        const char *absent, const char **value);

/* Building: adds and takes `value`. What cannot be added (no memory, or a value that
 * JSON lacks, which jansson gives as NULL) makes the whole *object NULL, and
 * hb_json_text then says so; nothing is written with a key less. */
void hb_json_put(json_t **object, const char *key, json_t *value);
void hb_json_append(json_t **array, json_t *value);

/* Indented by 2, keys in the order of their insertion, "\n" at the end; reals
 * with 17 digits, so that a double comes back as it was. `*text` is free'd by
 * the caller. jansson refuses to hold a NaN or infinity: check what json_real
 * returned; a NULL `value` is HB_EARGUMENT here. */
HB_MUST_USE hb_status hb_json_text(const json_t *value, char **text);

/* The same in one line, without blanks and without "\n". */
HB_MUST_USE hb_status hb_json_line(const json_t *value, char **text);

#endif
