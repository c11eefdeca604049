#include "core/json.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

/* Without memory jansson speaks of a syntax error, or loses a character of a string and
 * goes on. So its malloc leaves a mark. Functions that the program has given to jansson
 * go on serving below. */
static json_malloc_t malloc_below;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local bool ran_out;

static void *marking_malloc(size_t size)
{
    void *memory = malloc_below(size);
    ran_out = ran_out || !memory;
    return memory;
}

static void mark_failures(void)
{
    json_free_t free_below;
    json_get_alloc_funcs(&malloc_below, &free_below);
    json_set_alloc_funcs(marking_malloc, free_below);
}

hb_status hb_json_parse(const char *name, int64_t first_line, const char *text, size_t size, unsigned options,
                        json_t **out)
{
    size_t flags = JSON_REJECT_DUPLICATES;
    if (options & HB_JSON_ALLOW_NUL)
        flags |= JSON_ALLOW_NUL;
    json_error_t error;
    pthread_once(&once, mark_failures);
    ran_out = false;
    *out = json_loadb(text, size, flags, &error);
    if (ran_out) {
        json_decref(*out);
        *out = NULL;
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot hold %s", name);
    }
    if (*out)
        return HB_OK;
    /* The text may quote the document, which is not to steer a terminal. */
    for (char *c = error.text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    /* Where it failed before it read anything, jansson has no line. */
    int64_t line = first_line + (error.line > 0 ? error.line - 1 : 0);
    int column = error.column > 0 ? error.column : 1;
    return HB_FAIL(HB_EFORMAT, "%s:%lld:%d: %s", name, (long long)line, column, error.text);
}

hb_status hb_json_load(const char *path, unsigned options, json_t **out)
{
    *out = NULL;
    char *text;
    size_t size;
    HB_TRY(hb_file_read(path, &text, &size));
    hb_status status = hb_json_parse(path, 1, text, size, options, out);
    free(text);
    return status;
}

enum kind { INTEGER, REAL, BOOLEAN, STRING, OBJECT, ARRAY };

static bool is_kind(const json_t *value, enum kind kind)
{
    switch (kind) {
    case INTEGER: return json_is_integer(value);
    case REAL: return json_is_number(value);
    case BOOLEAN: return json_is_boolean(value);
    case STRING: return json_is_string(value);
    case OBJECT: return json_is_object(value);
    case ARRAY: return json_is_array(value);
    }
    return false;
}

/* With `optional`, an absent key or null gives *value = NULL. */
static hb_status get(const json_t *object, const char *where, const char *key, enum kind kind, bool optional,
                     json_t **value)
{
    static const char *const kinds[] = {
        [INTEGER] = "an integer", [REAL] = "a number",    [BOOLEAN] = "true or false",
        [STRING] = "a string",    [OBJECT] = "an object", [ARRAY] = "an array",
    };
    if (!json_is_object(object))
        return HB_FAIL(HB_EFORMAT, "%s: must be an object with the key '%s'", where, key);
    *value = json_object_get(object, key);
    if (optional && (!*value || json_is_null(*value))) {
        *value = NULL;
        return HB_OK;
    }
    if (!*value)
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' is missing; it must be %s", where, key, kinds[kind]);
    if (!is_kind(*value, kind))
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' must be %s", where, key, kinds[kind]);
    return HB_OK;
}

hb_status hb_json_int(const json_t *object, const char *where, const char *key, int64_t *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, INTEGER, false, &found));
    *value = json_integer_value(found);
    return HB_OK;
}

hb_status hb_json_real(const json_t *object, const char *where, const char *key, double *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, REAL, false, &found));
    *value = json_number_value(found);
    return HB_OK;
}

hb_status hb_json_bool(const json_t *object, const char *where, const char *key, bool *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, BOOLEAN, false, &found));
    *value = json_is_true(found);
    return HB_OK;
}

hb_status hb_json_string(const json_t *object, const char *where, const char *key, const char **value)
{
    json_t *found;
    HB_TRY(get(object, where, key, STRING, false, &found));
    *value = json_string_value(found);
    return HB_OK;
}

hb_status hb_json_object(const json_t *object, const char *where, const char *key, json_t **value)
{
    return get(object, where, key, OBJECT, false, value);
}

hb_status hb_json_array(const json_t *object, const char *where, const char *key, json_t **value)
{
    return get(object, where, key, ARRAY, false, value);
}

hb_status hb_json_int_or(const json_t *object, const char *where, const char *key, int64_t absent,
                         int64_t *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, INTEGER, true, &found));
    *value = found ? json_integer_value(found) : absent;
    return HB_OK;
}

hb_status hb_json_real_or(const json_t *object, const char *where, const char *key, double absent,
                          double *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, REAL, true, &found));
    *value = found ? json_number_value(found) : absent;
    return HB_OK;
}

hb_status hb_json_bool_or(const json_t *object, const char *where, const char *key, bool absent, bool *value)
{
    json_t *found;
    HB_TRY(get(object, where, key, BOOLEAN, true, &found));
    *value = found ? json_is_true(found) : absent;
    return HB_OK;
}

hb_status hb_json_string_or(const json_t *object, const char *where, const char *key, const char *absent,
                            const char **value)
{
    json_t *found;
    HB_TRY(get(object, where, key, STRING, true, &found));
    *value = found ? json_string_value(found) : absent;
    return HB_OK;
}

static void keep_whole(json_t **value, int failed)
{
    if (!failed)
        return;
    json_decref(*value);
    *value = NULL;
}

void hb_json_put(json_t **object, const char *key, json_t *value)
{
    keep_whole(object, json_object_set_new(*object, key, value));
}

void hb_json_append(json_t **array, json_t *value)
{
    keep_whole(array, json_array_append_new(*array, value));
}

static hb_status text_of(const json_t *value, size_t flags, const char *end, char **text)
{
    *text = NULL;
    if (!value)
        return HB_FAIL(
            HB_EARGUMENT,
            "there is no JSON value to write: out of memory, or a NaN, an infinity or invalid UTF-8");
    /* Into our own memory: json_dumps loses pieces of the text when its buffer cannot grow. */
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *ended = length ? malloc(length + 2) : NULL;
    if (!ended || json_dumpb(value, ended, length, flags) != length) {
        free(ended);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write a JSON document");
    }
    strcpy(ended + length, end);
    *text = ended;
    return HB_OK;
}

hb_status hb_json_text(const json_t *value, char **text)
{
    return text_of(value, JSON_INDENT(2) | JSON_ENCODE_ANY, "\n", text);
}

hb_status hb_json_line(const json_t *value, char **text)
{
    return text_of(value, JSON_COMPACT | JSON_ENCODE_ANY, "", text);
}
