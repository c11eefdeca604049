#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "model/tensor_file.h"

/* --- loading --- */

/* Where the values of a logical tensor lie: elements of a tensor in the file. */
struct source {
    struct hb_safetensors_tensor tensor;
    int64_t begin;
};

struct loading {
    struct hb_model *model;
    const struct hb_model *whole; /* of which model may be a part */
    const char *folder;
    struct hb_safetensors *file;
    const char **claimed; /* names of the file that some parameter takes, as the file spells them */
    int64_t claimed_count;
};

static char *shape_text(int rank, const int64_t *shape, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int d = 0; d < rank && used < size; d++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", d ? ", " : "", (long long)shape[d]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

/* Finds a tensor that must have this shape, and claims it. */
static hb_status take(struct loading *l, const char *name, int rank, const int64_t *shape,
                      struct hb_safetensors_tensor *out)
{
    if (!hb_safetensors_has(l->file, name))
        return HB_FAIL(HB_EFORMAT, "%s has no tensor '%s', which its config.json asks for", l->folder, name);
    HB_TRY(hb_safetensors_find(l->file, name, out));
    if (out->rank != rank || memcmp(out->shape, shape, (size_t)rank * sizeof *shape) != 0) {
        char got[128], wanted[128];
        return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' is %s, but config.json makes it %s", l->folder, name,
                       shape_text(out->rank, out->shape, got, sizeof got),
                       shape_text(rank, shape, wanted, sizeof wanted));
    }
    if (out->dtype != HB_F32 && out->dtype != HB_BF16 && out->dtype != HB_F16)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: tensor '%s' is %s; weights are read from f32, bf16 and f16",
                       l->folder, name, hb_dtype_name(out->dtype));
    l->claimed[l->claimed_count++] = out->name;
    return HB_OK;
}

/* The fused tensor that holds a stack, and its rows there: of one expert, and
 * before this part of it. */
static const char *fused_name(const struct hb_param *p, char *text, size_t size, int64_t *rows, int64_t *skip)
{
    int64_t own = p->value.shape[1];
    bool down = strcmp(p->name_after, ".down_proj.weight") == 0;
    *rows = down ? own : 2 * own;
    *skip = strcmp(p->name_after, ".up_proj.weight") == 0 ? own : 0;
    snprintf(text, size, "%s%s", p->name, down ? "down_proj" : "gate_up_proj");
    return text;
}

static hb_status find_source(struct loading *l, const struct hb_param *p, int64_t g, struct source *source)
{
    char name[2 * HB_PARAM_NAME_MAX];
    bool stack = p->name_after[0] != '\0';
    hb_param_logical_name(p, g, name, sizeof name);
    if (stack && !hb_safetensors_has(l->file, name)) {
        char fused[2 * HB_PARAM_NAME_MAX];
        int64_t rows, skip;
        fused_name(p, fused, sizeof fused, &rows, &skip);
        if (hb_safetensors_has(l->file, fused)) {
            int64_t columns = p->value.shape[2], shape[] = {p->all_groups, rows, columns};
            source->begin = ((p->first_group + g) * rows + skip) * columns;
            return take(l, fused, 3, shape, &source->tensor);
        }
    }
    source->begin = 0;
    return take(l, name, p->value.rank - stack, p->value.shape + stack, &source->tensor);
}

/* A tied head needs no tensor of its own; one that says otherwise is not obeyed in silence. */
static hb_status check_tied_head(struct loading *l)
{
    struct hb_safetensors_tensor embedding, head;
    if (l->whole->head != l->whole->embedding || !hb_safetensors_has(l->file, "lm_head.weight"))
        return HB_OK;
    HB_TRY(take(l, "lm_head.weight", 2, l->whole->embedding->value.shape, &head));
    HB_TRY(hb_safetensors_find(l->file, l->whole->embedding->name, &embedding));
    if (head.dtype != embedding.dtype || memcmp(head.data, embedding.data, head.bytes) != 0)
        return HB_FAIL(
            HB_EFORMAT,
            "%s: lm_head.weight differs from %s, but config.json ties them; set tie_word_embeddings to "
            "false or remove lm_head.weight",
            l->folder, l->whole->embedding->name);
    return HB_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Old files store the rotary frequencies, which follow from the configuration. */
static bool is_buffer(const char *name)
{
    static const char suffix[] = "rotary_emb.inv_freq";
    size_t length = strlen(name);
    return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

static hb_status refuse_unknown(struct loading *l)
{
    qsort(l->claimed, (size_t)l->claimed_count, sizeof *l->claimed, by_text);
    for (size_t i = 0; i < hb_safetensors_count(l->file); i++) {
        const char *name = hb_safetensors_name(l->file, i);
        if (!is_buffer(name) &&
            !bsearch(&name, l->claimed, (size_t)l->claimed_count, sizeof *l->claimed, by_text))
            return HB_FAIL(HB_EFORMAT, "%s: the model of config.json has no place for tensor '%s'", l->folder,
                           name);
    }
    return HB_OK;
}

/* Weights take what their type holds of the file's numbers, masters all of it. */
static hb_status fill(struct hb_context *context, const struct hb_param *p, int64_t g,
                      const struct source *source)
{
    int64_t part = hb_param_part_count(p), begin = g * part, end = begin + part;
    if (p->level < 3)
        HB_TRY(hb_tensor_from_file(context, &source->tensor, source->begin,
                                   hb_tensor_part(p->value, p->groups, g)));
    if (p->level < 3 && !p->master.data)
        return HB_OK;
    struct hb_range here = p->level >= 1 ? p->shard : (struct hb_range){0, hb_param_count(p)};
    begin = begin > here.begin ? begin : here.begin;
    end = end < here.end ? end : here.end;
    if (begin >= end)
        return HB_OK;
    here = (struct hb_range){begin, end};
    begin += source->begin - g * part;
    if (p->level == 3)
        HB_TRY(hb_tensor_from_file(context, &source->tensor, begin, hb_param_elements(p, p->kept, here)));
    if (!p->master.data)
        return HB_OK;
    return hb_tensor_from_file(context, &source->tensor, begin, hb_param_elements(p, p->master, here));
}

/* Runs over all logical tensors: of the whole model to check, of what is here to copy. */
static hb_status visit(struct loading *l, const struct hb_model *model, bool copy)
{
    l->claimed_count = 0;
    for (int64_t i = 0; i < model->param_count; i++) {
        const struct hb_param *p = model->params[i];
        for (int64_t g = 0; g < p->groups; g++) {
            struct source source;
            HB_TRY(find_source(l, p, g, &source));
            if (copy)
                HB_TRY(fill(model->context, p, g, &source));
        }
    }
    return HB_OK;
}

static hb_status load(struct loading *l)
{
    int64_t most = 1; /* the head of a tied model */
    for (int64_t i = 0; i < l->whole->param_count; i++)
        most += l->whole->params[i]->groups;
    l->claimed = calloc((size_t)most, sizeof *l->claimed);
    if (!l->claimed)
        return HB_FAIL(HB_EMEMORY, "out of memory for the names of tensors");
    HB_TRY(hb_safetensors_open_model(l->folder, &l->file));
    HB_TRY(visit(l, l->whole, false));
    HB_TRY(check_tied_head(l));
    HB_TRY(refuse_unknown(l));
    return visit(l, l->model, true);
}

hb_status hb_model_load(struct hb_model *model, const char *folder)
{
    struct hb_model *whole;
    HB_TRY(hb_model_outline(model->context, &model->config, NULL, &whole));
    struct loading l = {.model = model, .whole = whole, .folder = folder};
    hb_status status = load(&l);
    hb_model_destroy(whole);
    hb_safetensors_close(l.file);
    free(l.claimed);
    return status;
}

/* --- saving --- */

int hb_saved_round(const struct hb_param *p)
{
    return hb_dtype_size(hb_tensor_file_dtype(&p->value)) > 2 ? 0 : 1;
}

static hb_status declare_param(const struct hb_param *p, struct hb_safetensors_writer *writer)
{
    int stack = p->name_after[0] != '\0';
    for (int64_t g = 0; g < p->groups; g++) {
        char name[2 * HB_PARAM_NAME_MAX];
        HB_TRY(hb_safetensors_writer_declare(writer, hb_param_logical_name(p, g, name, sizeof name),
                                             hb_tensor_file_dtype(&p->value), p->value.rank - stack,
                                             p->value.shape + stack));
    }
    return HB_OK;
}

static hb_status declare(const struct hb_model *model, struct hb_safetensors_writer *writer)
{
    HB_TRY(hb_safetensors_writer_metadata(writer, "format", "pt"));
    for (int round = 0; round < HB_SAVED_ROUNDS; round++)
        for (int64_t i = 0; i < model->param_count; i++)
            if (hb_saved_round(model->params[i]) == round)
                HB_TRY(declare_param(model->params[i], writer));
    return HB_OK;
}

static hb_status write_param(struct hb_context *context, const struct hb_param *p,
                             struct hb_safetensors_writer *writer)
{
    for (int64_t g = 0; g < p->groups; g++) {
        char name[2 * HB_PARAM_NAME_MAX];
        HB_TRY(hb_tensor_to_file(context, hb_tensor_part(p->value, p->groups, g), writer,
                                 hb_param_logical_name(p, g, name, sizeof name)));
    }
    return HB_OK;
}

static hb_status write_values(const struct hb_model *model, struct hb_safetensors_writer *writer)
{
    for (int round = 0; round < HB_SAVED_ROUNDS; round++)
        for (int64_t i = 0; i < model->param_count; i++)
            if (hb_saved_round(model->params[i]) == round)
                HB_TRY(write_param(model->context, model->params[i], writer));
    return HB_OK;
}

static hb_status save_config(const struct hb_model *model, const char *path)
{
    char *text;
    HB_TRY(hb_model_config_text(&model->config, &text));
    hb_status status = hb_file_write(path, text, strlen(text));
    free(text);
    return status;
}

hb_status hb_model_save_begin(const struct hb_model *model, const char *folder,
                              struct hb_safetensors_writer **writer)
{
    *writer = NULL;
    HB_TRY(hb_folder_create(folder));
    char *config = hb_path_join(folder, "config.json"), *tensors = hb_path_join(folder, "model.safetensors");
    hb_status status =
        config && tensors ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", folder);
    if (status == HB_OK)
        status = save_config(model, config);
    if (status == HB_OK)
        status = hb_safetensors_writer_create(tensors, writer);
    if (status == HB_OK)
        status = declare(model, *writer);
    free(config);
    free(tensors);
    return status;
}

hb_status hb_model_save(const struct hb_model *model, const char *folder, struct hb_file_receipt *weights)
{
    struct hb_safetensors_writer *writer;
    hb_status status = hb_model_save_begin(model, folder, &writer);
    if (status == HB_OK)
        status = write_values(model, writer);
    if (status == HB_OK)
        status = hb_safetensors_writer_finish(writer, weights);
    hb_safetensors_writer_destroy(writer);
    return status;
}
