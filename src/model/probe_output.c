/* What a probe found, as a safetensors file. */
#include <stdio.h>
#include <stdlib.h>

#include "core/safetensors.h"
#include "model/probe.h"
#include "model/tensor_file.h"

enum { PIECE = 1 << 20 }; /* elements on the host at a time */

struct output {
    const struct hb_probe *probe;
    struct hb_context *context;
    struct hb_safetensors_writer *writer;
};

/* The dtype as it is; i32 becomes i64, which is what index tensors are elsewhere. */
static enum hb_dtype file_dtype(struct hb_tensor t)
{
    return t.dtype == HB_I32 ? HB_I64 : t.dtype;
}

static void widen(const int32_t *from, int64_t *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i];
}

static hb_status put_pieces(struct output *o, const char *name, struct hb_tensor t, char *raw, int64_t *wide)
{
    struct hb_tensor flat = hb_tensor_1d(t.home, t.data, t.dtype, hb_tensor_count(&t));
    for (int64_t i = 0; i < flat.shape[0]; i += PIECE) {
        int64_t n = flat.shape[0] - i < PIECE ? flat.shape[0] - i : PIECE;
        HB_TRY(hb_copy_out(o->context, raw, hb_tensor_rows(flat, i, n)));
        if (t.dtype == HB_I32)
            widen((const int32_t *)(const void *)raw, wide, n);
        HB_TRY(hb_safetensors_writer_write(o->writer, name, t.dtype == HB_I32 ? (const void *)wide : raw,
                                           (size_t)n * hb_dtype_size(file_dtype(t))));
    }
    return HB_OK;
}

static hb_status put(struct output *o, const char *name, struct hb_tensor t)
{
    int64_t count = hb_tensor_count(&t), piece = count < PIECE ? count : PIECE;
    char *raw = malloc((size_t)piece * 8);
    int64_t *wide = malloc((size_t)piece * sizeof *wide);
    hb_status status = raw && wide ? put_pieces(o, name, t, raw, wide)
                                   : HB_FAIL(HB_EMEMORY, "out of memory for a piece of tensor '%s'", name);
    free(raw);
    free(wide);
    return status;
}

/* A tensor under its name: declared in the first round, written in the second. */
static hb_status tensor(struct output *o, bool declare, const char *name, struct hb_tensor t, int rank,
                        const int64_t *shape)
{
    if (!t.data)
        return HB_OK;
    return declare ? hb_safetensors_writer_declare(o->writer, name, file_dtype(t), rank, shape)
                   : put(o, name, t);
}

static hb_status number(struct output *o, bool declare, bool there, const char *name, double value)
{
    if (!there)
        return HB_OK;
    return declare ? hb_safetensors_writer_declare(o->writer, name, HB_F64, 0, NULL)
                   : hb_safetensors_writer_write(o->writer, name, &value, sizeof value);
}

static hb_status gradients(struct output *o, bool declare)
{
    const struct hb_model *model = o->probe->model;
    for (int64_t i = 0; o->probe->want_gradients && i < model->param_count; i++) {
        const struct hb_param *p = model->params[i];
        int stack = p->name_after[0] != '\0';
        for (int64_t g = 0; p->trained && g < p->groups; g++) {
            char logical[2 * HB_PARAM_NAME_MAX], name[2 * HB_PARAM_NAME_MAX + 8];
            snprintf(name, sizeof name, "grad.%s", hb_param_logical_name(p, g, logical, sizeof logical));
            HB_TRY(tensor(o, declare, name, hb_tensor_part(p->use[0].root, p->groups, g),
                          p->value.rank - stack, p->value.shape + stack));
        }
    }
    return HB_OK;
}

/* Wider types first: no tensor is misaligned. */
static hb_status everything(struct output *o, bool declare)
{
    const struct hb_probe *p = o->probe;
    const struct hb_model_config *c = &p->model->config;
    int64_t B = p->sequences, T = p->length;
    HB_TRY(number(o, declare, p->has_loss, "ce_loss", p->ce_loss));
    HB_TRY(number(o, declare, p->has_aux, "aux_loss", p->aux_loss));
    HB_TRY(number(o, declare, p->has_z, "z_loss", p->z_loss));
    HB_TRY(number(o, declare, p->has_loss, "loss", p->loss));
    HB_TRY(tensor(o, declare, "router_index", p->router_index, 3, p->router_index.shape));
    HB_TRY(tensor(o, declare, "router_weight", p->router_weight, 3, p->router_weight.shape));
    HB_TRY(tensor(o, declare, "logits", p->logits, 3, (int64_t[]){B, T, c->vocab_size}));
    HB_TRY(tensor(o, declare, "hidden_states", p->hidden, 4,
                  (int64_t[]){c->num_hidden_layers + 1, B, T, c->hidden_size}));
    return gradients(o, declare);
}

hb_status hb_probe_write(const struct hb_probe *probe, const char *path)
{
    struct output o = {.probe = probe, .context = probe->model->context};
    HB_TRY(hb_safetensors_writer_create(path, &o.writer));
    hb_status status;
    HB_TRY_CLEAN(hb_safetensors_writer_metadata(o.writer, "backend", o.context->backend->name));
    HB_TRY_CLEAN(hb_safetensors_writer_metadata(
        o.writer, "numerics", o.context->numerics == HB_CANONICAL ? "canonical" : "fast"));
    HB_TRY_CLEAN(everything(&o, true));
    HB_TRY_CLEAN(everything(&o, false));
    HB_TRY_CLEAN(hb_safetensors_writer_finish(o.writer, NULL));
cleanup:
    hb_safetensors_writer_destroy(o.writer);
    return status;
}
