#include "train/moments.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/file.h"
#include "core/json.h"
#include "model/tensor_file.h"

enum { NAME_SIZE = 2 * HB_PARAM_NAME_MAX + 2 };

static const char kinds[] = {'m', 'v', 'w'}; /* the masters come last: not all have them */

static struct hb_tensor tensor_of(const struct hb_param *p, char kind)
{
    return kind == 'm' ? p->m : kind == 'v' ? p->v : p->master;
}

/* How many of `kinds` there are of a parameter. */
static size_t kinds_of(const struct hb_param *p)
{
    return p->trained ? (p->master.data ? sizeof kinds : sizeof kinds - 1) : 0;
}

static const char *moment_name(const char *logical, char kind, char *text)
{
    snprintf(text, NAME_SIZE, "%c.%s", kind, logical);
    return text;
}

static struct hb_range within(struct hb_range range, int64_t begin, int64_t end)
{
    range.begin = range.begin < begin ? begin : range.begin > end ? end : range.begin;
    range.end = range.end > end ? end : range.end < range.begin ? range.begin : range.end;
    return range;
}

/* The elements of a logical tensor, counted in the whole parameter, that this
 * rank answers for (`shard`), or that it updates. */
static struct hb_range elements_of(const struct hb_optimizer *o, const struct hb_logical *l, bool shard)
{
    if (l->param < 0)
        return (struct hb_range){0, 0};
    const struct hb_param *p = o->model->params[l->param];
    struct hb_range range = shard || p->level ? p->shard : (struct hb_range){0, hb_param_count(p)};
    if (!p->trained || (shard && !hb_model_has_block(o->model, p->block)))
        return (struct hb_range){0, 0};
    return within(range, l->group * l->count, (l->group + 1) * l->count);
}

const char *hb_moments_file(int rank, int ranks, char text[HB_MOMENTS_NAME])
{
    snprintf(text, HB_MOMENTS_NAME, "optimizer-%05d-of-%05d.safetensors", rank, ranks);
    return text;
}

/* --- saving --- */

static hb_status declare_ranges(const struct hb_optimizer *o, struct hb_safetensors_writer *writer)
{
    json_t *ranges = json_object();
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        struct hb_range own = elements_of(o, l, true);
        int64_t first = l->group * l->count;
        if (own.begin < own.end)
            hb_json_put(&ranges, l->name,
                        json_pack("[I, I]", (json_int_t)(own.begin - first), (json_int_t)(own.end - first)));
    }
    char *text;
    hb_status status = hb_json_line(ranges, &text);
    json_decref(ranges);
    if (status != HB_OK)
        return hb_fail_in(status, "ranges of the moments");
    status = hb_safetensors_writer_metadata(writer, "ranges", text);
    free(text);
    return status;
}

/* Declares all tensors, then writes them. */
static hb_status visit(const struct hb_optimizer *o, struct hb_safetensors_writer *writer, bool write)
{
    char name[NAME_SIZE];
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        struct hb_range own = elements_of(o, l, true);
        int64_t count = own.end - own.begin;
        if (write && i == o->census.logical_count / 2)
            HB_TRY(hb_fault_point(HB_FAULT_SHARD));
        for (size_t k = 0; count && k < kinds_of(o->model->params[l->param]); k++) {
            const struct hb_param *p = o->model->params[l->param];
            moment_name(l->name, kinds[k], name);
            HB_TRY(write ? hb_tensor_to_file(o->context, hb_param_elements(p, tensor_of(p, kinds[k]), own),
                                             writer, name)
                         : hb_safetensors_writer_declare(writer, name, HB_F32, 1, &count));
        }
    }
    return HB_OK;
}

hb_status hb_moments_save(const struct hb_optimizer *optimizer, const char *path,
                          struct hb_file_receipt *receipt)
{
    struct hb_safetensors_writer *writer;
    HB_TRY(hb_safetensors_writer_create(path, &writer));
    hb_status status = declare_ranges(optimizer, writer);
    if (status == HB_OK)
        status = visit(optimizer, writer, false);
    if (status == HB_OK)
        status = visit(optimizer, writer, true);
    if (status == HB_OK)
        status = hb_safetensors_writer_finish(writer, receipt);
    hb_safetensors_writer_destroy(writer);
    return status;
}

/* --- the files of a checkpoint --- */

struct shard_file {
    char *path;
    struct hb_safetensors *file;
    json_t *ranges;
};

struct shards {
    struct shard_file *files;
    int count;
};

static void close_shards(struct shards *s)
{
    for (int i = 0; i < s->count; i++) {
        hb_safetensors_close(s->files[i].file);
        json_decref(s->files[i].ranges);
        free(s->files[i].path);
    }
    free(s->files);
}

/* Of how many files the moments consist: as the first one's name says. */
static hb_status count_files(const char *folder, int *count)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return HB_FAIL(HB_EIO, "cannot open the folder %s", folder);
    *count = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char name[HB_MOMENTS_NAME];
        int n;
        if (sscanf(e->d_name, "optimizer-00000-of-%5d.safetensors", &n) == 1 && n > *count &&
            strcmp(hb_moments_file(0, n, name), e->d_name) == 0)
            *count = n;
    }
    closedir(dir);
    return *count ? HB_OK : HB_FAIL(HB_EFORMAT, "%s has no file optimizer-00000-of-*.safetensors", folder);
}

static hb_status open_file(const char *folder, int i, int count, struct shard_file *f)
{
    char name[HB_MOMENTS_NAME];
    f->path = hb_path_join(folder, hb_moments_file(i, count, name));
    if (!f->path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot load %s", folder);
    if (!hb_file_exists(f->path))
        return HB_FAIL(HB_EFORMAT, "%s is missing: the moments are in %d files", f->path, count);
    HB_TRY(hb_safetensors_open(f->path, &f->file));
    const char *text = hb_safetensors_metadata(f->file, "ranges");
    if (!text)
        return HB_FAIL(HB_EFORMAT, "%s: the metadata has no 'ranges'", f->path);
    return hb_json_parse(f->path, 1, text, strlen(text), 0, &f->ranges);
}

static hb_status open_shards(const char *folder, struct shards *s)
{
    *s = (struct shards){0};
    int count;
    HB_TRY(count_files(folder, &count));
    s->files = calloc((size_t)count, sizeof *s->files);
    if (!s->files)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot load %s", folder);
    s->count = count;
    for (int i = 0; i < count; i++)
        HB_TRY(open_file(folder, i, count, &s->files[i]));
    return HB_OK;
}

/* --- checking --- */

static hb_status read_range(const struct shard_file *f, const struct hb_logical *l, const json_t *range,
                            struct hb_range *out)
{
    const json_t *begin = json_array_get(range, 0), *end = json_array_get(range, 1);
    out->begin = json_integer_value(begin);
    out->end = json_integer_value(end);
    if (json_array_size(range) != 2 || !json_is_integer(begin) || !json_is_integer(end) || out->begin < 0 ||
        out->begin >= out->end || out->end > l->count)
        return HB_FAIL(HB_ESHAPE, "%s: the range of '%s' is not within [0, %lld], the model's tensor",
                       f->path, l->name, (long long)l->count);
    return HB_OK;
}

/* Every range belongs to a tensor of the model, and has its moments. */
static hb_status check_file(const struct hb_optimizer *o, const struct shard_file *f, int64_t *covered)
{
    const char *logical;
    json_t *range;
    size_t tensors = 0;
    json_object_foreach(f->ranges, logical, range) {
        const struct hb_logical *l = hb_census_find(&o->census, logical);
        struct hb_range r;
        if (!l || !l->trained)
            return HB_FAIL(HB_EFORMAT, "%s: the model has no moments of '%s'", f->path, logical);
        HB_TRY(read_range(f, l, range, &r));
        covered[l - o->census.logical] += r.end - r.begin;
        for (size_t k = 0; k < sizeof kinds; k++) {
            char name[NAME_SIZE];
            struct hb_safetensors_tensor t;
            moment_name(logical, kinds[k], name);
            bool here = l->param >= 0 && k < kinds_of(o->model->params[l->param]);
            if (kinds[k] == 'w' && !here && !(l->param < 0 && hb_safetensors_has(f->file, name)))
                continue;
            HB_TRY(hb_safetensors_find(f->file, name, &t));
            if (t.dtype != HB_F32 || t.rank != 1 || t.count != r.end - r.begin)
                return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' is not f32 [%lld], as its range [%lld, %lld] says",
                               f->path, name, (long long)(r.end - r.begin), (long long)r.begin,
                               (long long)r.end);
            tensors++;
        }
    }
    if (hb_safetensors_count(f->file) != tensors)
        return HB_FAIL(HB_EFORMAT, "%s: %zu tensors, the model has %zu moments of its ranges", f->path,
                       hb_safetensors_count(f->file), tensors);
    return HB_OK;
}

static hb_status check(const struct hb_optimizer *o, const char *folder, const struct shards *s)
{
    int64_t *covered = calloc((size_t)o->census.logical_count, sizeof *covered);
    hb_status status = covered ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory: cannot load %s", folder);
    for (int i = 0; status == HB_OK && i < s->count; i++)
        status = check_file(o, &s->files[i], covered);
    for (int64_t i = 0; status == HB_OK && i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        if (l->trained && covered[i] != l->count)
            status = HB_FAIL(HB_ESHAPE, "%s: the moments of '%s' have %lld elements, the model's tensor %lld",
                             folder, l->name, (long long)covered[i], (long long)l->count);
    }
    free(covered);
    return status;
}

hb_status hb_moments_check(const struct hb_optimizer *optimizer, const char *folder)
{
    struct shards shards;
    hb_status status = open_shards(folder, &shards);
    if (status == HB_OK)
        status = check(optimizer, folder, &shards);
    close_shards(&shards);
    return status;
}

/* --- loading --- */

/* What a file has of the elements that this rank wants. */
static hb_status copy(struct hb_optimizer *o, const struct shard_file *f, const struct hb_logical *l)
{
    struct hb_range wanted = elements_of(o, l, false), range;
    const json_t *entry = json_object_get(f->ranges, l->name);
    if (!entry || wanted.begin == wanted.end)
        return HB_OK;
    HB_TRY(read_range(f, l, entry, &range));
    int64_t first = l->group * l->count + range.begin;
    wanted = within(wanted, first, first + range.end - range.begin);
    const struct hb_param *p = o->model->params[l->param];
    for (size_t k = 0; wanted.begin < wanted.end && k < kinds_of(p); k++) {
        char name[NAME_SIZE];
        struct hb_safetensors_tensor t;
        HB_TRY(hb_safetensors_find(f->file, moment_name(l->name, kinds[k], name), &t));
        HB_TRY(hb_tensor_from_file(o->context, &t, wanted.begin - first,
                                   hb_param_elements(p, tensor_of(p, kinds[k]), wanted)));
    }
    return HB_OK;
}

hb_status hb_moments_load(struct hb_optimizer *optimizer, const char *folder)
{
    struct shards shards;
    hb_status status = open_shards(folder, &shards);
    if (status == HB_OK)
        status = check(optimizer, folder, &shards);
    for (int i = 0; status == HB_OK && i < shards.count; i++)
        for (int64_t n = 0; status == HB_OK && n < optimizer->census.logical_count; n++)
            status = copy(optimizer, &shards.files[i], &optimizer->census.logical[n]);
    close_shards(&shards);
    return status;
}
