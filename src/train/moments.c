#include "train/moments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "model/tensor_file.h"

enum { NAME_SIZE = 2 * HB_PARAM_NAME_MAX + 2 };

static const char kinds[] = {'m', 'v', 'w'}; /* the masters come last: not all have them */

/* The flat view of a moment of a logical tensor. */
static struct hb_tensor moment(const struct hb_optimizer *o, const struct hb_logical *l, char kind)
{
    const struct hb_param *p = o->model->params[l->param];
    return hb_tensor_part(kind == 'm' ? p->m : kind == 'v' ? p->v : p->master, p->groups, l->group);
}

static bool is_trained(const struct hb_optimizer *o, const struct hb_logical *l)
{
    return o->model->params[l->param]->trained;
}

/* How many of `kinds` there are of a logical tensor. */
static size_t kinds_of(const struct hb_optimizer *o, const struct hb_logical *l)
{
    if (!is_trained(o, l))
        return 0;
    return o->model->params[l->param]->master.data ? sizeof kinds : sizeof kinds - 1;
}

static const char *moment_name(const struct hb_logical *l, char kind, char *text)
{
    snprintf(text, NAME_SIZE, "%c.%s", kind, l->name);
    return text;
}

/* --- saving --- */

static hb_status declare_ranges(const struct hb_optimizer *o, struct hb_safetensors_writer *writer)
{
    json_t *ranges = json_object();
    for (int64_t i = 0; i < o->census.logical_count; i++)
        if (is_trained(o, &o->census.logical[i]))
            hb_json_put(&ranges, o->census.logical[i].name,
                                json_pack("[I, I]", (json_int_t)0, (json_int_t)o->census.logical[i].count));
    char *text = ranges ? json_dumps(ranges, JSON_COMPACT) : NULL;
    json_decref(ranges);
    if (!text)
        return HB_FAIL(HB_EMEMORY, "out of memory for the ranges of the moments");
    hb_status status = hb_safetensors_writer_metadata(writer, "ranges", text);
    free(text);
    return status;
}

static hb_status save(const struct hb_optimizer *o, struct hb_safetensors_writer *writer)
{
    char name[NAME_SIZE];
    HB_TRY(declare_ranges(o, writer));
    for (int64_t i = 0; i < o->census.logical_count; i++)
        for (size_t k = 0; k < kinds_of(o, &o->census.logical[i]); k++)
            HB_TRY(hb_safetensors_writer_declare(writer, moment_name(&o->census.logical[i], kinds[k], name), HB_F32,
                                                 1, &o->census.logical[i].count));
    for (int64_t i = 0; i < o->census.logical_count; i++)
        for (size_t k = 0; k < kinds_of(o, &o->census.logical[i]); k++)
            HB_TRY(hb_tensor_to_file(o->context, moment(o, &o->census.logical[i], kinds[k]), writer,
                                     moment_name(&o->census.logical[i], kinds[k], name)));
    return HB_OK;
}

hb_status hb_moments_save(const struct hb_optimizer *optimizer, const char *path,
                          struct hb_file_receipt *receipt)
{
    struct hb_safetensors_writer *writer;
    HB_TRY(hb_safetensors_writer_create(path, &writer));
    hb_status status = save(optimizer, writer);
    if (status == HB_OK)
        status = hb_safetensors_writer_finish(writer, receipt);
    hb_safetensors_writer_destroy(writer);
    return status;
}

/* --- loading --- */

/* The file must hold the whole of a logical tensor. */
static hb_status check_range(const json_t *ranges, const char *path, const struct hb_logical *l)
{
    json_t *range;
    HB_TRY(hb_json_array(ranges, path, l->name, &range));
    const json_t *begin = json_array_get(range, 0), *end = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(begin) || json_integer_value(begin) != 0 ||
        !json_is_integer(end) || json_integer_value(end) != l->count)
        return HB_FAIL(HB_ESHAPE, "%s: the range of '%s' is not [0, %lld], all of the model's tensor", path,
                       l->name, (long long)l->count);
    return HB_OK;
}

static hb_status check_tensors(const struct hb_optimizer *o, const char *path,
                               const struct hb_safetensors *file, const json_t *ranges)
{
    size_t wanted = 0;
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        if (!is_trained(o, l))
            continue;
        HB_TRY(check_range(ranges, path, l));
        for (size_t k = 0; k < kinds_of(o, l); k++) {
            char name[NAME_SIZE];
            struct hb_safetensors_tensor t;
            HB_TRY(hb_safetensors_find(file, moment_name(l, kinds[k], name), &t));
            if (t.dtype != HB_F32 || t.rank != 1 || t.count != l->count)
                return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' is not f32 [%lld], as the model has it", path,
                               name, (long long)l->count);
            wanted++;
        }
    }
    if (hb_safetensors_count(file) != wanted)
        return HB_FAIL(HB_EFORMAT, "%s: %zu tensors, the model has %zu moments", path,
                       hb_safetensors_count(file), wanted);
    return HB_OK;
}

static hb_status check(const struct hb_optimizer *o, const char *path, const struct hb_safetensors *file)
{
    const char *text = hb_safetensors_metadata(file, "ranges");
    if (!text)
        return HB_FAIL(HB_EFORMAT, "%s: the metadata has no 'ranges'", path);
    json_t *ranges;
    HB_TRY(hb_json_parse(path, 1, text, strlen(text), 0, &ranges));
    hb_status status = check_tensors(o, path, file, ranges);
    json_decref(ranges);
    return status;
}

static hb_status copy(struct hb_optimizer *o, const struct hb_safetensors *file)
{
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        for (size_t k = 0; k < kinds_of(o, l); k++) {
            char name[NAME_SIZE];
            struct hb_safetensors_tensor t;
            HB_TRY(hb_safetensors_find(file, moment_name(l, kinds[k], name), &t));
            HB_TRY(hb_tensor_from_file(o->context, &t, 0, moment(o, l, kinds[k])));
        }
    }
    return HB_OK;
}

hb_status hb_moments_check(const struct hb_optimizer *optimizer, const char *path)
{
    struct hb_safetensors *file;
    HB_TRY(hb_safetensors_open(path, &file));
    hb_status status = check(optimizer, path, file);
    hb_safetensors_close(file);
    return status;
}

hb_status hb_moments_load(struct hb_optimizer *optimizer, const char *path)
{
    struct hb_safetensors *file;
    HB_TRY(hb_safetensors_open(path, &file));
    hb_status status = check(optimizer, path, file);
    if (status == HB_OK)
        status = copy(optimizer, file);
    hb_safetensors_close(file);
    return status;
}
