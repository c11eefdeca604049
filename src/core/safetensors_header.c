#include "core/safetensors_header.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors lie in files as in memory: little-endian");

static const char *const dtype_names[HB_DTYPE_COUNT] = {
    [HB_F64] = "F64", [HB_F32] = "F32", [HB_BF16] = "BF16", [HB_F16] = "F16",
    [HB_I64] = "I64", [HB_I32] = "I32", [HB_U8] = "U8",
};

const char *hb_safetensors_dtype_name(enum hb_dtype dtype)
{
    return dtype_names[dtype];
}

static int dtype_of(const char *name)
{
    for (int dtype = 0; dtype < HB_DTYPE_COUNT; dtype++)
        if (strcmp(name, dtype_names[dtype]) == 0)
            return dtype;
    return -1;
}

static hb_status read_shape(const json_t *shape, const char *path, struct hb_safetensors_entry *entry)
{
    for (int d = 0; d < HB_RANK_MAX; d++)
        entry->shape[d] = 1;
    entry->rank = json_array_size(shape);
    entry->count = 1;
    for (size_t d = 0; d < entry->rank; d++) {
        const json_t *item = json_array_get(shape, d);
        int64_t size = json_integer_value(item);
        if (!json_is_integer(item) || size < 0)
            return HB_FAIL(HB_EFORMAT, "%s: tensor '%s': shape must hold integers from 0 on", path,
                           entry->name);
        if (__builtin_mul_overflow(entry->count, size, &entry->count))
            return HB_FAIL(HB_EFORMAT, "%s: tensor '%s': the product of its shape overflows", path,
                           entry->name);
        if (d < HB_RANK_MAX)
            entry->shape[d] = size;
    }
    return HB_OK;
}

static hb_status read_offsets(const json_t *offsets, const char *path, size_t data_size,
                              struct hb_safetensors_entry *entry)
{
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return HB_FAIL(HB_EFORMAT, "%s: tensor '%s': data_offsets must be two integers", path, entry->name);
    int64_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || begin > end)
        return HB_FAIL(HB_EFORMAT, "%s: tensor '%s': data_offsets [%lld, %lld] must ascend from 0", path,
                       entry->name, (long long)begin, (long long)end);
    if ((uint64_t)end > data_size)
        return HB_FAIL(HB_EFORMAT,
                       "%s: tensor '%s' ends at byte %lld of the data, which has %zu; is the file cut?", path,
                       entry->name, (long long)end, data_size);
    entry->begin = (size_t)begin;
    entry->end = (size_t)end;
    return HB_OK;
}

static hb_status read_entry(const char *name, const json_t *value, const char *path, size_t data_size,
                            struct hb_safetensors_entry *entry)
{
    entry->name = name;
    const json_t *dtype = json_object_get(value, "dtype");
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets))
        return HB_FAIL(HB_EFORMAT, "%s: tensor '%s' must have dtype, shape and data_offsets", path, name);
    entry->dtype_name = json_string_value(dtype);
    entry->dtype = dtype_of(entry->dtype_name);
    HB_TRY(read_shape(shape, path, entry));
    HB_TRY(read_offsets(offsets, path, data_size, entry));
    if (entry->dtype < 0)
        return HB_OK; /* its element size is not known here: only its place can be checked */
    size_t bytes;
    if (__builtin_mul_overflow((size_t)entry->count, hb_dtype_size((enum hb_dtype)entry->dtype), &bytes) ||
        bytes != entry->end - entry->begin)
        return HB_FAIL(HB_EFORMAT, "%s: tensor '%s': %lld elements of %s do not fill its %zu bytes", path,
                       name, (long long)entry->count, entry->dtype_name, entry->end - entry->begin);
    return HB_OK;
}

static hb_status check_metadata(const json_t *metadata, const char *path)
{
    if (!json_is_object(metadata))
        return HB_FAIL(HB_EFORMAT, "%s: __metadata__ must be an object", path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
        if (!json_is_string(value))
            return HB_FAIL(HB_EFORMAT, "%s: __metadata__: key '%s' must be a string", path, key);
    return HB_OK;
}

/* Empty tensors share an offset with their neighbours; the name makes the order total. */
static int by_offset(const void *left, const void *right)
{
    const struct hb_safetensors_entry *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static hb_status check_cover(const struct hb_safetensors_header *header, const char *path, size_t data_size)
{
    size_t covered = 0;
    for (size_t i = 0; i < header->count; i++) {
        const struct hb_safetensors_entry *entry = &header->entries[i];
        if (entry->begin < covered)
            return HB_FAIL(HB_EFORMAT, "%s: tensor '%s' overlaps '%s'", path, entry->name, entry[-1].name);
        if (entry->begin > covered)
            return HB_FAIL(HB_EFORMAT, "%s: %zu bytes before tensor '%s' belong to no tensor", path,
                           entry->begin - covered, entry->name);
        covered = entry->end;
    }
    if (covered != data_size)
        return HB_FAIL(HB_EFORMAT, "%s: %zu bytes at the end belong to no tensor", path, data_size - covered);
    return HB_OK;
}

static hb_status read_entries(struct hb_safetensors_header *header, const char *path, size_t data_size)
{
    size_t room = json_object_size(header->root);
    header->entries = calloc(room + 1, sizeof *header->entries);
    if (!header->entries)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot hold the header of %s", path);
    const char *name;
    json_t *value;
    json_object_foreach(header->root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            header->metadata = value;
            HB_TRY(check_metadata(value, path));
        } else {
            HB_TRY(read_entry(name, value, path, data_size, &header->entries[header->count]));
            header->count++;
        }
    }
    qsort(header->entries, header->count, sizeof *header->entries, by_offset);
    return check_cover(header, path, data_size);
}

hb_status hb_safetensors_header_init(struct hb_safetensors_header *header, const char *path,
                                     const unsigned char *file, size_t size)
{
    *header = (struct hb_safetensors_header){0};
    uint64_t length;
    if (size < sizeof length)
        return HB_FAIL(HB_EFORMAT, "%s has %zu bytes, too few for a safetensors file", path, size);
    memcpy(&length, file, sizeof length);
    if (length > HB_SAFETENSORS_HEADER_MAX)
        return HB_FAIL(HB_EFORMAT,
                       "%s: a header of %llu bytes is beyond the format's limit of %u; "
                       "is this a safetensors file?",
                       path, (unsigned long long)length, HB_SAFETENSORS_HEADER_MAX);
    if (length > size - sizeof length)
        return HB_FAIL(HB_EFORMAT, "%s has %zu bytes, its header alone should have %llu; is the file cut?",
                       path, size, (unsigned long long)length);
    const char *json = (const char *)file + sizeof length;
    if (length == 0 || json[0] != '{')
        return HB_FAIL(HB_EFORMAT, "%s: the header must start with '{'; is this a safetensors file?", path);
    hb_status status = hb_json_parse(path, 1, json, (size_t)length, 0, &header->root);
    if (status == HB_OK) {
        header->data = file + sizeof length + length;
        status = read_entries(header, path, size - sizeof length - (size_t)length);
    }
    if (status != HB_OK)
        hb_safetensors_header_release(header);
    return status;
}

void hb_safetensors_header_release(struct hb_safetensors_header *header)
{
    json_decref(header->root);
    free(header->entries);
    *header = (struct hb_safetensors_header){0};
}
