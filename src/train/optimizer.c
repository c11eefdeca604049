#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/math64.h"

static int64_t chunks_of(int64_t count)
{
    return (count + HB_CHUNK - 1) / HB_CHUNK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hb_logical *)a)->name, ((const struct hb_logical *)b)->name);
}

/* Lists the logical tensors in the model's order, then sorts them by name. */
static hb_status list_logical(struct hb_optimizer *o, int64_t *trained, int64_t *chunks)
{
    struct hb_model *model = o->model;
    int64_t count = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        count += model->params[p]->groups;
    o->logical = calloc((size_t)count, sizeof *o->logical);
    o->first_logical = calloc((size_t)model->param_count, sizeof *o->first_logical);
    o->first_chunk = calloc((size_t)model->param_count, sizeof *o->first_chunk);
    if (!o->logical || !o->first_logical || !o->first_chunk)
        return HB_FAIL(HB_EMEMORY, "out of memory for the list of parameters");
    *trained = *chunks = 0;
    for (int64_t p = 0; p < model->param_count; p++) {
        const struct hb_param *param = model->params[p];
        o->first_logical[p] = *trained;
        o->first_chunk[p] = *chunks;
        if (param->trained)
            *trained += param->groups;
        for (int64_t g = 0; g < param->groups; g++) {
            char name[2 * HB_PARAM_NAME_MAX];
            struct hb_logical *l = &o->logical[o->logical_count++];
            l->name = strdup(hb_param_logical_name(param, g, name, sizeof name));
            if (!l->name)
                return HB_FAIL(HB_EMEMORY, "out of memory for the list of parameters");
            l->param = p;
            l->group = g;
            l->count = hb_tensor_count(&param->value) / param->groups;
            l->first_chunk = *chunks;
            *chunks += chunks_of(l->count);
        }
    }
    qsort(o->logical, (size_t)o->logical_count, sizeof *o->logical, by_name);
    return HB_OK;
}

static hb_status allocate(struct hb_optimizer *o, enum hb_dtype dtype, int64_t n, struct hb_tensor *out)
{
    *out = hb_tensor_1d(o->context, NULL, dtype, n);
    return hb_alloc(o->context, HB_MEMORY_OPTIMIZER, hb_tensor_bytes(out), &out->data);
}

static hb_status init(struct hb_optimizer *o)
{
    int64_t trained, chunks, n = 0;
    HB_TRY(list_logical(o, &trained, &chunks));
    HB_TRY(allocate(o, HB_F64, trained, &o->squares));
    HB_TRY(allocate(o, HB_I32, trained, &o->order));
    HB_TRY(allocate(o, HB_I64, chunks, &o->chunk_hash));
    HB_TRY(allocate(o, HB_I32, 1, &o->found));
    HB_TRY(allocate(o, HB_F64, 1, &o->norm));
    HB_TRY(allocate(o, hb_real_dtype(o->context), 1, &o->coef));
    int32_t *order = malloc((size_t)trained * sizeof *order);
    if (!order)
        return HB_FAIL(HB_EMEMORY, "out of memory for the order of parameters");
    for (int64_t i = 0; i < o->logical_count; i++)
        if (o->model->params[o->logical[i].param]->trained)
            order[n++] = (int32_t)(o->first_logical[o->logical[i].param] + o->logical[i].group);
    hb_status status = hb_copy_in(o->context, o->order, order);
    free(order);
    return status;
}

hb_status hb_optimizer_init(struct hb_optimizer *optimizer, struct hb_model *model,
                            const struct hb_optimizer_config *config)
{
    *optimizer = (struct hb_optimizer){.context = model->context, .model = model, .config = *config};
    hb_status status = init(optimizer);
    if (status != HB_OK)
        hb_optimizer_release(optimizer);
    return status;
}

void hb_optimizer_release(struct hb_optimizer *o)
{
    if (!o->context)
        return;
    hb_free(o->context, o->squares.data);
    hb_free(o->context, o->order.data);
    hb_free(o->context, o->chunk_hash.data);
    hb_free(o->context, o->found.data);
    hb_free(o->context, o->norm.data);
    hb_free(o->context, o->coef.data);
    for (int64_t i = 0; i < o->logical_count; i++)
        free(o->logical[i].name);
    free(o->logical);
    free(o->first_logical);
    free(o->first_chunk);
    *o = (struct hb_optimizer){0};
}

/* Finite check, norm and clipping factor, left on the backend. */
static hb_status judge(struct hb_optimizer *o, float inv_scale)
{
    struct hb_model *model = o->model;
    HB_TRY(hb_zero(o->context, o->found));
    for (int64_t p = 0; p < model->param_count; p++) {
        struct hb_param *param = model->params[p];
        if (!param->trained)
            continue;
        HB_TRY(hb_sum(o->context,
                      &(struct hb_sum_args){.x = param->use[0].root,
                                            .squares = true,
                                            .factor = inv_scale,
                                            .out = hb_tensor_rows(o->squares, o->first_logical[p], param->groups),
                                            .found = o->found}));
    }
    return hb_clip(o->context, &(struct hb_clip_args){.squares = o->squares,
                                                      .order = o->order,
                                                      .max_norm = (float)o->config.clip,
                                                      .norm = o->norm,
                                                      .coef = o->coef});
}

static struct hb_tensor hashes_of(const struct hb_optimizer *o, int64_t p)
{
    const struct hb_param *param = o->model->params[p];
    int64_t count = hb_tensor_count(&param->value) / param->groups;
    return hb_tensor_rows(o->chunk_hash, o->first_chunk[p], param->groups * chunks_of(count));
}

static hb_status update(struct hb_optimizer *o, double rate, float inv_scale, bool digest)
{
    const struct hb_optimizer_config *c = &o->config;
    double s = (double)(o->applied + 1);
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        if (!param->trained)
            continue;
        bool decay = param->decay || c->decay == HB_DECAY_ALL;
        struct hb_adamw_args args = {
            .param = param->value,
            .grad = param->use[0].root,
            .m = param->m,
            .v = param->v,
            .coef = o->coef,
            .found = o->found,
            .inv_scale = inv_scale,
            .keep = decay ? (float)(1 - rate * c->weight_decay) : 1.0f,
            .beta1 = (float)c->beta1,
            .one_minus_beta1 = (float)(1 - c->beta1),
            .beta2 = (float)c->beta2,
            .one_minus_beta2 = (float)(1 - c->beta2),
            .step_size = (float)(rate / (1 - hb_pow64(c->beta1, s))),
            .root2 = (float)sqrt(1 - hb_pow64(c->beta2, s)),
            .eps = (float)c->eps,
            .groups = param->groups,
            .chunk_hash = digest ? hashes_of(o, p) : (struct hb_tensor){0},
        };
        HB_TRY(hb_adamw(o->context, &args));
        hb_fault_point(HB_FAULT_OPTIMIZER);
    }
    return HB_OK;
}

/* The bias that steers selection follows the counts of the whole step. */
static hb_status move_selection_bias(struct hb_optimizer *o, struct hb_tensor counts)
{
    for (int64_t l = 0; l < o->model->config.num_hidden_layers; l++) {
        const struct hb_decoder *d = &o->model->decoders[l];
        if (!d->is_moe || !d->moe.selection_bias)
            continue;
        struct hb_tensor row = hb_tensor_rows(counts, d->moe.layer, 1);
        struct hb_balance_bias_args args = {
            .counts = hb_tensor_1d(o->context, row.data, HB_I64, row.shape[1]),
            .rate = (float)o->model->config.balance_bias_rate,
            .found = o->found,
            .bias = d->moe.selection_bias->value,
        };
        HB_TRY(hb_balance_bias(o->context, &args));
    }
    return HB_OK;
}

hb_status hb_optimizer_step(struct hb_optimizer *o, float scale, struct hb_tensor counts, bool digest,
                            struct hb_verdict *verdict)
{
    float inv_scale = 1 / scale;
    int32_t found;
    verdict->learning_rate = hb_schedule_rate(&o->config.schedule, o->applied + 1);
    HB_TRY(judge(o, inv_scale));
    HB_TRY(update(o, verdict->learning_rate, inv_scale, digest));
    if (counts.data)
        HB_TRY(move_selection_bias(o, counts));
    HB_TRY(hb_copy_out(o->context, &found, o->found));
    HB_TRY(hb_copy_out(o->context, &verdict->grad_norm, o->norm));
    verdict->skipped = found != 0;
    if (!verdict->skipped)
        o->applied++;
    return HB_OK;
}

hb_status hb_optimizer_digest(struct hb_optimizer *o, bool fresh, char text[HB_DIGEST_TEXT + 1])
{
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        if (fresh || !param->trained)
            HB_TRY(hb_digest(o->context, &(struct hb_digest_args){.x = param->value,
                                                                  .groups = param->groups,
                                                                  .chunk_hash = hashes_of(o, p)}));
    }
    int64_t *hashes = malloc(hb_tensor_bytes(&o->chunk_hash) + 1);
    if (!hashes)
        return HB_FAIL(HB_EMEMORY, "out of memory for the digest");
    struct hb_digest digest = {0};
    hb_status status;
    HB_TRY_CLEAN(hb_copy_out(o->context, hashes, o->chunk_hash));
    HB_TRY_CLEAN(hb_digest_init(&digest, HB_NUMERICS_VERSION));
    for (int64_t i = 0; i < o->logical_count; i++) {
        const struct hb_logical *l = &o->logical[i];
        for (int64_t c = 0; c < chunks_of(l->count); c++)
            hb_digest_add_chunk(&digest, l->name, (uint64_t)c, (uint64_t)hashes[l->first_chunk + c]);
    }
    hb_digest_value(&digest, text);
cleanup:
    if (status == HB_OK)
        hb_digest_release(&digest);
    free(hashes);
    return status;
}
