#include "core/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors_header.h"

struct shard {
    char *name; /* as the index names it, or the path of a single file */
    char *path;
    struct hb_file_map map;
    struct hb_safetensors_header header;
};

struct item {
    const struct hb_safetensors_entry *entry;
    size_t shard;
};

struct hb_safetensors {
    char *path; /* of the file or the index, for messages */
    struct shard *shards;
    size_t shard_count;
    struct item *items;
    struct item *by_name; /* the same, sorted */
    size_t count;
};

static hb_status no_memory(const char *path)
{
    return HB_FAIL(HB_EMEMORY, "out of memory: cannot open %s", path);
}

static hb_status create(const char *path, struct hb_safetensors **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out || !((*out)->path = strdup(path)))
        return no_memory(path);
    return HB_OK;
}

/* Opens one more shard. `path` becomes ours, also on failure. */
static hb_status add_shard(struct hb_safetensors *file, const char *name, char *path)
{
    char *copy = strdup(name);
    struct shard *larger = realloc(file->shards, (file->shard_count + 1) * sizeof *larger);
    if (larger)
        file->shards = larger;
    if (!path || !copy || !larger) {
        free(path);
        free(copy);
        return no_memory(name);
    }
    struct shard *shard = &file->shards[file->shard_count++];
    *shard = (struct shard){.name = copy, .path = path};
    HB_TRY(hb_file_map(path, &shard->map));
    return hb_safetensors_header_init(&shard->header, path, shard->map.data, shard->map.size);
}

static int by_name(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    return strcmp(a->entry->name, b->entry->name);
}

/* Lists the tensors of all shards; with a map, only those that it assigns to their shard. */
static hb_status list(struct hb_safetensors *file, const json_t *weight_map)
{
    size_t room = 1;
    for (size_t s = 0; s < file->shard_count; s++)
        room += file->shards[s].header.count;
    file->items = calloc(room, sizeof *file->items);
    file->by_name = calloc(room, sizeof *file->by_name);
    if (!file->items || !file->by_name)
        return no_memory(file->path);
    for (size_t s = 0; s < file->shard_count; s++) {
        const struct shard *shard = &file->shards[s];
        for (size_t i = 0; i < shard->header.count; i++) {
            const struct hb_safetensors_entry *entry = &shard->header.entries[i];
            const char *home =
                weight_map ? json_string_value(json_object_get(weight_map, entry->name)) : shard->name;
            if (home && strcmp(home, shard->name) == 0)
                file->items[file->count++] = (struct item){entry, s};
        }
    }
    memcpy(file->by_name, file->items, file->count * sizeof *file->items);
    qsort(file->by_name, file->count, sizeof *file->by_name, by_name);
    return HB_OK;
}

hb_status hb_safetensors_open(const char *path, struct hb_safetensors **out)
{
    hb_status status = create(path, out);
    if (status == HB_OK)
        status = add_shard(*out, path, strdup(path));
    if (status == HB_OK)
        status = list(*out, NULL);
    if (status != HB_OK) {
        hb_safetensors_close(*out);
        *out = NULL;
    }
    return status;
}

static bool has_shard(const struct hb_safetensors *file, const char *name)
{
    /* Neighbours in the map mostly share a shard, the latest one. */
    for (size_t s = file->shard_count; s-- > 0;)
        if (strcmp(file->shards[s].name, name) == 0)
            return true;
    return false;
}

static hb_status open_shards(struct hb_safetensors *file, const char *folder, json_t *weight_map)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value) {
        const char *name = json_string_value(value);
        /* A plain name: an index must not lead out of its folder. */
        if (!name || !name[0] || strchr(name, '/'))
            return HB_FAIL(HB_EFORMAT, "%s: weight_map: key '%s' must be the name of a file beside it",
                           file->path, tensor);
        if (has_shard(file, name))
            continue;
        char *path = hb_path_join(folder, name);
        if (path && !hb_file_exists(path)) {
            free(path);
            return HB_FAIL(HB_EFORMAT, "%s: the shard %s is missing; it holds '%s' and maybe more",
                           file->path, name, tensor);
        }
        HB_TRY(add_shard(file, name, path));
    }
    HB_TRY(list(file, weight_map));
    json_object_foreach(weight_map, tensor, value)
        if (!hb_safetensors_has(file, tensor))
            return HB_FAIL(HB_EFORMAT, "%s: tensor '%s' is not in its shard %s", file->path, tensor,
                           json_string_value(value));
    return HB_OK;
}

static hb_status open_index(const char *folder, const char *path, struct hb_safetensors **out)
{
    json_t *index, *weight_map;
    HB_TRY(hb_json_load(path, 0, &index));
    hb_status status = hb_json_object(index, path, "weight_map", &weight_map);
    if (status == HB_OK)
        status = create(path, out);
    if (status == HB_OK)
        status = open_shards(*out, folder, weight_map);
    json_decref(index);
    return status;
}

hb_status hb_safetensors_open_model(const char *folder, struct hb_safetensors **out)
{
    *out = NULL;
    hb_status status;
    char *single = hb_path_join(folder, "model.safetensors");
    char *index = hb_path_join(folder, "model.safetensors.index.json");
    if (!single || !index)
        status = no_memory(folder);
    else if (hb_file_exists(single))
        status = hb_safetensors_open(single, out);
    else if (hb_file_exists(index))
        status = open_index(folder, index, out);
    else
        status =
            HB_FAIL(HB_EFORMAT, "%s has neither model.safetensors nor model.safetensors.index.json", folder);
    free(single);
    free(index);
    if (status != HB_OK) {
        hb_safetensors_close(*out);
        *out = NULL;
    }
    return status;
}

void hb_safetensors_close(struct hb_safetensors *file)
{
    if (!file)
        return;
    for (size_t s = 0; s < file->shard_count; s++) {
        hb_safetensors_header_release(&file->shards[s].header);
        hb_file_unmap(&file->shards[s].map);
        free(file->shards[s].name);
        free(file->shards[s].path);
    }
    free(file->shards);
    free(file->items);
    free(file->by_name);
    free(file->path);
    free(file);
}

size_t hb_safetensors_count(const struct hb_safetensors *file)
{
    return file->count;
}

const char *hb_safetensors_name(const struct hb_safetensors *file, size_t index)
{
    return file->items[index].entry->name;
}

static hb_status view(const struct hb_safetensors *file, struct item item, struct hb_safetensors_tensor *out)
{
    const struct hb_safetensors_entry *entry = item.entry;
    const struct shard *shard = &file->shards[item.shard];
    if (entry->dtype < 0)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s: tensor '%s' has dtype %s, which is not read here; convert the file", shard->path,
                       entry->name, entry->dtype_name);
    if (entry->rank > HB_RANK_MAX)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are read here",
                       shard->path, entry->name, entry->rank, HB_RANK_MAX);
    *out = (struct hb_safetensors_tensor){
        .name = entry->name,
        .dtype = (enum hb_dtype)entry->dtype,
        .rank = (int)entry->rank,
        .count = entry->count,
        .data = shard->header.data + entry->begin,
        .bytes = entry->end - entry->begin,
    };
    memcpy(out->shape, entry->shape, sizeof out->shape);
    return HB_OK;
}

hb_status hb_safetensors_at(const struct hb_safetensors *file, size_t index,
                            struct hb_safetensors_tensor *out)
{
    if (index >= file->count)
        return HB_FAIL(HB_EARGUMENT, "%s has %zu tensors, none has number %zu", file->path, file->count,
                       index);
    return view(file, file->items[index], out);
}

static const struct item *look_up(const struct hb_safetensors *file, const char *name)
{
    struct hb_safetensors_entry wanted = {.name = name};
    struct item key = {&wanted, 0};
    return bsearch(&key, file->by_name, file->count, sizeof key, by_name);
}

bool hb_safetensors_has(const struct hb_safetensors *file, const char *name)
{
    return look_up(file, name) != NULL;
}

hb_status hb_safetensors_find(const struct hb_safetensors *file, const char *name,
                              struct hb_safetensors_tensor *out)
{
    const struct item *item = look_up(file, name);
    if (!item)
        return HB_FAIL(HB_EFORMAT, "%s has no tensor '%s'", file->path, name);
    return view(file, *item, out);
}

void hb_safetensors_copy(const struct hb_safetensors_tensor *tensor, void *to)
{
    memcpy(to, tensor->data, tensor->bytes);
}

hb_status hb_safetensors_copy_f32(const struct hb_safetensors_tensor *tensor, float *to)
{
    const unsigned char *from = tensor->data;
    uint16_t half;
    switch (tensor->dtype) {
    case HB_F32: memcpy(to, from, tensor->bytes); return HB_OK;
    case HB_BF16:
        for (int64_t i = 0; i < tensor->count; i++) {
            memcpy(&half, from + 2 * i, sizeof half);
            to[i] = hb_f32_of_bf16(half);
        }
        return HB_OK;
    case HB_F16:
        for (int64_t i = 0; i < tensor->count; i++) {
            memcpy(&half, from + 2 * i, sizeof half);
            to[i] = hb_f32_of_f16(half);
        }
        return HB_OK;
    default:
        return HB_FAIL(HB_EUNSUPPORTED,
                       "tensor '%s' is %s; only f32, bf16 and f16 become f32 without rounding", tensor->name,
                       hb_dtype_name(tensor->dtype));
    }
}

const char *hb_safetensors_metadata(const struct hb_safetensors *file, const char *key)
{
    for (size_t s = 0; s < file->shard_count; s++) {
        const json_t *text = json_object_get(file->shards[s].header.metadata, key);
        if (text)
            return json_string_value(text);
    }
    return NULL;
}
