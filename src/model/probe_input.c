/* Tokens and labels of a probe, from a file that nobody has checked. */
#include <stdlib.h>

#include "core/safetensors.h"
#include "model/probe.h"

enum { NO_LABEL = -100 };

static hb_status find(const struct hb_safetensors *file, const char *path, const char *name,
                      struct hb_safetensors_tensor *out)
{
    HB_TRY(hb_safetensors_find(file, name, out));
    if (out->dtype != HB_I64)
        return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' is %s, it must be i64", path, name,
                       hb_dtype_name(out->dtype));
    if (out->rank != 2 || out->count == 0)
        return HB_FAIL(HB_ESHAPE, "%s: tensor '%s' must have the shape [B, T], with at least one token", path,
                       name);
    return HB_OK;
}

static int64_t element(const struct hb_safetensors_tensor *t, int64_t i)
{
    int64_t value;
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

static hb_status out_of_range(const char *path, const struct hb_safetensors_tensor *t, int64_t i,
                              const char *besides, int64_t vocabulary)
{
    return HB_FAIL(HB_EARGUMENT, "%s: %s[%lld, %lld] is %lld, it must be from 0 to %lld%s", path, t->name,
                   (long long)(i / t->shape[1]), (long long)(i % t->shape[1]), (long long)element(t, i),
                   (long long)(vocabulary - 1), besides);
}

static hb_status read_ids(const char *path, const struct hb_safetensors_tensor *from, int64_t vocabulary,
                          struct hb_probe_input *input)
{
    for (int64_t i = 0; i < from->count; i++) {
        int64_t id = element(from, i);
        if (id < 0 || id >= vocabulary)
            return out_of_range(path, from, i, "", vocabulary);
        input->ids[i] = (int32_t)id;
    }
    return HB_OK;
}

/* The row before a token predicts it; the last row of a sequence predicts nothing. */
static hb_status read_labels(const char *path, const struct hb_safetensors_tensor *from, int64_t vocabulary,
                             struct hb_probe_input *input)
{
    int64_t T = input->length;
    for (int64_t i = 0; i < from->count; i++) {
        int64_t label = element(from, i);
        if (label != NO_LABEL && (label < 0 || label >= vocabulary))
            return out_of_range(path, from, i, ", or -100 for no label", vocabulary);
        if (i % T == 0)
            continue;
        input->labels[i - 1] = (int32_t)label;
        input->label_count += label != NO_LABEL;
    }
    for (int64_t i = T - 1; i < from->count; i += T)
        input->labels[i] = NO_LABEL;
    if (input->label_count == 0)
        return HB_FAIL(HB_EARGUMENT,
                       "%s: no row has a label: the first token of a sequence is never one, and the rest are "
                       "-100; leave 'labels' out",
                       path);
    return HB_OK;
}

static hb_status read(const struct hb_safetensors *file, const char *path, int64_t vocabulary,
                      struct hb_probe_input *input)
{
    struct hb_safetensors_tensor ids, labels;
    bool labelled = hb_safetensors_has(file, "labels");
    HB_TRY(find(file, path, "input_ids", &ids));
    input->sequences = ids.shape[0];
    input->length = ids.shape[1];
    if (ids.count > INT32_MAX / 2)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: %lld tokens are too many for one microbatch", path,
                       (long long)ids.count);
    input->ids = malloc((size_t)ids.count * sizeof *input->ids);
    if (labelled)
        input->labels = malloc((size_t)ids.count * sizeof *input->labels);
    if (!input->ids || (labelled && !input->labels))
        return HB_FAIL(HB_EMEMORY, "out of memory for %lld tokens", (long long)ids.count);
    HB_TRY(read_ids(path, &ids, vocabulary, input));
    if (!labelled)
        return HB_OK;
    HB_TRY(find(file, path, "labels", &labels));
    if (labels.shape[0] != ids.shape[0] || labels.shape[1] != ids.shape[1])
        return HB_FAIL(HB_ESHAPE, "%s: 'labels' must have the shape of 'input_ids', [%lld, %lld]", path,
                       (long long)ids.shape[0], (long long)ids.shape[1]);
    return read_labels(path, &labels, vocabulary, input);
}

hb_status hb_probe_input_read(const char *path, int64_t vocabulary, struct hb_probe_input *input)
{
    struct hb_safetensors *file;
    *input = (struct hb_probe_input){0};
    HB_TRY(hb_safetensors_open(path, &file));
    hb_status status = read(file, path, vocabulary, input);
    hb_safetensors_close(file);
    if (status != HB_OK)
        hb_probe_input_release(input);
    return status;
}

void hb_probe_input_release(struct hb_probe_input *input)
{
    free(input->ids);
    free(input->labels);
    *input = (struct hb_probe_input){0};
}
