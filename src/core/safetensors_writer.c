#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/file_writer.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/safetensors_header.h"

struct declared {
    char *name;
    size_t bytes;
};

struct hb_safetensors_writer {
    char *path;
    struct hb_file_writer *out;
    XXH3_state_t *hash;
    json_t *root;
    struct declared *tensors;
    size_t count;
    size_t declared;      /* bytes of data so far */
    size_t current, done; /* the tensor being written, and its bytes so far */
    uint64_t written;     /* bytes of the file */
    bool open;            /* the header is out */
};

static hb_status no_memory(const char *path)
{
    return HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", path);
}

hb_status hb_safetensors_writer_create(const char *path, struct hb_safetensors_writer **out)
{
    *out = NULL;
    struct hb_safetensors_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return no_memory(path);
    writer->path = strdup(path);
    writer->hash = XXH3_createState();
    writer->root = json_object();
    hb_status status = HB_OK;
    if (!writer->path || !writer->hash || !writer->root || XXH3_128bits_reset(writer->hash) != XXH_OK)
        status = no_memory(path);
    if (status == HB_OK)
        status = hb_file_writer_create(path, &writer->out);
    if (status != HB_OK) {
        hb_safetensors_writer_destroy(writer);
        return status;
    }
    *out = writer;
    return HB_OK;
}

static hb_status refuse_late(const struct hb_safetensors_writer *writer, const char *name)
{
    if (writer->open)
        return HB_FAIL(HB_EARGUMENT, "%s: '%s' is declared after data was written", writer->path, name);
    return HB_OK;
}

/* Holds value under key, of which jansson does not say why it refuses. */
static hb_status hold(const struct hb_safetensors_writer *writer, json_t *object, const char *key,
                      json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        return HB_FAIL(HB_EARGUMENT, "%s: cannot hold '%s' in the header: no valid UTF-8, or out of memory",
                       writer->path, key);
    return HB_OK;
}

hb_status hb_safetensors_writer_metadata(struct hb_safetensors_writer *writer, const char *key,
                                         const char *text)
{
    HB_TRY(refuse_late(writer, key));
    json_t *metadata = json_object_get(writer->root, "__metadata__");
    if (!metadata) {
        metadata = json_object();
        HB_TRY(hold(writer, writer->root, "__metadata__", metadata));
    }
    if (json_object_get(metadata, key))
        return HB_FAIL(HB_EARGUMENT, "%s: metadata '%s' is given twice", writer->path, key);
    return hold(writer, metadata, key, json_string(text));
}

/* Bytes of the tensor, or a refusal. */
static hb_status measure(const struct hb_safetensors_writer *writer, const char *name, enum hb_dtype dtype,
                         int rank, const int64_t *shape, size_t *bytes)
{
    if (strcmp(name, "__metadata__") == 0 || json_object_get(writer->root, name))
        return HB_FAIL(HB_EARGUMENT, "%s: tensor '%s' is declared twice or has a reserved name", writer->path,
                       name);
    if (rank < 0 || rank > HB_RANK_MAX)
        return HB_FAIL(HB_ESHAPE, "%s: tensor '%s': rank %d is not between 0 and %d", writer->path, name,
                       rank, HB_RANK_MAX);
    *bytes = hb_dtype_size(dtype);
    bool fits = true;
    for (int d = 0; d < rank; d++)
        fits = fits && shape[d] >= 0 && !__builtin_mul_overflow(*bytes, (size_t)shape[d], bytes);
    if (!fits || *bytes > (size_t)INT64_MAX - writer->declared)
        return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' has a negative or too large shape", writer->path, name);
    if (writer->declared % hb_dtype_size(dtype) != 0)
        return HB_FAIL(HB_EARGUMENT, "%s: tensor '%s' (%s) would be misaligned; declare wider dtypes first",
                       writer->path, name, hb_dtype_name(dtype));
    return HB_OK;
}

hb_status hb_safetensors_writer_declare(struct hb_safetensors_writer *writer, const char *name,
                                        enum hb_dtype dtype, int rank, const int64_t *shape)
{
    size_t bytes = 0;
    HB_TRY(refuse_late(writer, name));
    HB_TRY(measure(writer, name, dtype, rank, shape, &bytes));

    /* Room doubles at each power of two. */
    if ((writer->count & (writer->count - 1)) == 0) {
        size_t room = writer->count ? 2 * writer->count : 1;
        struct declared *larger = realloc(writer->tensors, room * sizeof *larger);
        if (!larger)
            return no_memory(writer->path);
        writer->tensors = larger;
    }
    json_t *dims = json_array();
    for (int d = 0; d < rank; d++)
        json_array_append_new(dims, json_integer(shape[d]));
    json_t *entry =
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", hb_safetensors_dtype_name(dtype), "shape", dims,
                  "data_offsets", (json_int_t)writer->declared, (json_int_t)(writer->declared + bytes));
    char *copy = strdup(name);
    if (!copy || !entry || json_array_size(dims) != (size_t)rank) {
        free(copy);
        json_decref(entry);
        return no_memory(writer->path);
    }
    hb_status status = hold(writer, writer->root, name, entry);
    if (status != HB_OK) {
        free(copy);
        return status;
    }
    writer->tensors[writer->count++] = (struct declared){copy, bytes};
    writer->declared += bytes;
    return HB_OK;
}

static hb_status put(struct hb_safetensors_writer *writer, const void *data, size_t bytes)
{
    HB_TRY(hb_file_writer_write(writer->out, data, bytes));
    writer->written += bytes;
    if (XXH3_128bits_update(writer->hash, data, bytes) != XXH_OK)
        return HB_FAIL(HB_EINTERNAL, "%s: the hash refused %zu bytes", writer->path, bytes);
    return HB_OK;
}

static hb_status put_header(struct hb_safetensors_writer *writer)
{
    char *json;
    HB_TRY(hb_json_line(writer->root, &json));
    /* Padded so that the data starts at a multiple of 8. */
    static const char spaces[8] = "        ";
    size_t used = strlen(json), padding = (8 - used % 8) % 8;
    uint64_t length = used + padding;
    hb_status status = HB_OK;
    if (length > HB_SAFETENSORS_HEADER_MAX)
        status = HB_FAIL(HB_EARGUMENT,
                         "%s: a header of %" PRIu64 " bytes is beyond the format's limit of %u; "
                         "split the tensors over files",
                         writer->path, length, HB_SAFETENSORS_HEADER_MAX);
    if (status == HB_OK)
        status = put(writer, &length, sizeof length);
    if (status == HB_OK)
        status = put(writer, json, used);
    if (status == HB_OK)
        status = put(writer, spaces, padding);
    free(json);
    writer->open = true;
    return status;
}

/* Steps over finished tensors, empty ones too. */
static void advance(struct hb_safetensors_writer *writer)
{
    while (writer->current < writer->count && writer->done == writer->tensors[writer->current].bytes) {
        writer->current++;
        writer->done = 0;
    }
}

hb_status hb_safetensors_writer_write(struct hb_safetensors_writer *writer, const char *name,
                                      const void *data, size_t bytes)
{
    if (!writer->open)
        HB_TRY(put_header(writer));
    if (bytes == 0)
        return HB_OK;
    advance(writer);
    if (writer->current == writer->count)
        return HB_FAIL(HB_EARGUMENT, "%s: '%s' is written when all tensors are complete", writer->path, name);
    const struct declared *tensor = &writer->tensors[writer->current];
    if (strcmp(tensor->name, name) != 0)
        return HB_FAIL(HB_EARGUMENT, "%s: '%s' is written when it is the turn of '%s'", writer->path, name,
                       tensor->name);
    if (bytes > tensor->bytes - writer->done)
        return HB_FAIL(HB_EARGUMENT, "%s: %zu bytes are too many for '%s', which lacks %zu", writer->path,
                       bytes, name, tensor->bytes - writer->done);
    HB_TRY(put(writer, data, bytes));
    writer->done += bytes;
    return HB_OK;
}

hb_status hb_safetensors_writer_finish(struct hb_safetensors_writer *writer, struct hb_file_receipt *receipt)
{
    if (!writer->open)
        HB_TRY(put_header(writer));
    advance(writer);
    if (writer->current < writer->count)
        return HB_FAIL(HB_EARGUMENT, "%s: tensor '%s' is not complete", writer->path,
                       writer->tensors[writer->current].name);
    HB_TRY(hb_file_writer_commit(writer->out));
    if (receipt)
        *receipt = hb_file_receipt_of(writer->written, writer->hash);
    return HB_OK;
}

void hb_safetensors_writer_destroy(struct hb_safetensors_writer *writer)
{
    if (!writer)
        return;
    hb_file_writer_destroy(writer->out);
    XXH3_freeState(writer->hash);
    json_decref(writer->root);
    for (size_t i = 0; i < writer->count; i++)
        free(writer->tensors[i].name);
    free(writer->tensors);
    free(writer->path);
    free(writer);
}
