#include "train/optimizer.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/math64.h"
#include "core/philox.h"
#include "core/tree.h"

/* What steers the step, in the block `verdict` of the optimizer. */
struct scalars {
    double norm;
    int64_t extremes[2];
    int32_t found;
};

static hb_status allocate(struct hb_optimizer *o, enum hb_dtype dtype, int64_t n, struct hb_tensor *out)
{
    *out = hb_tensor_1d(o->context, NULL, dtype, n);
    return hb_alloc(o->context, HB_MEMORY_WORKSPACE, hb_tensor_bytes(out), &out->data);
}

/* Of one rank: the logical tensors by name, as places in the model's order. */
static hb_status make_order(struct hb_optimizer *o, int64_t trained)
{
    const struct hb_model *model = o->model;
    int32_t *order = malloc((size_t)trained * sizeof *order + 1);
    int64_t *first = malloc((size_t)model->param_count * sizeof *first + 1), n = 0;
    hb_status status = order && first ? HB_OK
                                      : HB_FAIL(HB_EMEMORY, "out of memory for the order of parameters");
    for (int64_t p = 0; status == HB_OK && p < model->param_count; p++) {
        first[p] = n;
        n += model->params[p]->trained ? model->params[p]->groups : 0;
    }
    n = 0;
    for (int64_t i = 0; status == HB_OK && i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        if (l->trained)
            order[n++] = (int32_t)(first[l->param] + l->group);
    }
    if (status == HB_OK)
        status = hb_copy_in(o->context, o->order, order);
    free(order);
    free(first);
    return status;
}

/* The hashed names of the trained logical tensors here, in the model's order, for stochastic rounding. */
static hb_status make_names(struct hb_optimizer *o)
{
    int64_t count = 0, n = 0;
    for (int64_t p = 0; p < o->model->param_count; p++)
        count += o->model->params[p]->trained ? o->model->params[p]->groups : 0;
    int64_t *names = malloc((size_t)count * sizeof *names + 1);
    if (!names)
        return HB_FAIL(HB_EMEMORY, "out of memory for the names of parameters");
    for (int64_t p = 0; p < o->model->param_count; p++) {
        const struct hb_param *param = o->model->params[p];
        char name[2 * HB_PARAM_NAME_MAX];
        for (int64_t g = 0; param->trained && g < param->groups; g++)
            names[n++] = (int64_t)hb_hash64_name(hb_param_logical_name(param, g, name, sizeof name));
    }
    hb_status status = allocate(o, HB_I64, count, &o->names);
    if (status == HB_OK)
        status = hb_copy_in(o->context, o->names, names);
    free(names);
    return status;
}

static hb_status init(struct hb_optimizer *o)
{
    int64_t trained = 0, chunks = 0;
    HB_TRY(hb_census_init(&o->census, o->model, o->mesh));
    for (int64_t i = 0; i < o->census.logical_count; i++)
        trained += o->census.logical[i].trained;
    for (int64_t p = 0; p < o->model->param_count; p++)
        chunks += hb_param_chunks(o->model->params[p]);
    HB_TRY(allocate(o, HB_F64, trained, &o->squares));
    HB_TRY(allocate(o, HB_I64, chunks, &o->chunk_hash));
    if (o->model->config.precision.stochastic)
        HB_TRY(make_names(o));
    HB_TRY(allocate(o, HB_U8, sizeof(struct scalars), &o->verdict));
    char *at = o->verdict.data;
    o->norm = hb_tensor_1d(o->context, at + offsetof(struct scalars, norm), HB_F64, 1);
    o->extremes = hb_tensor_1d(o->context, at + offsetof(struct scalars, extremes), HB_I64, 2);
    o->found = hb_tensor_1d(o->context, at + offsetof(struct scalars, found), HB_I32, 1);
    HB_TRY(hb_zero(o->context, o->extremes));
    HB_TRY(allocate(o, hb_real_dtype(o->context), 1, &o->coef));
    if (o->mesh)
        return allocate(o, HB_F64, chunks, &o->sums);
    HB_TRY(allocate(o, HB_I32, trained, &o->order));
    return make_order(o, trained);
}

hb_status hb_optimizer_init_ranks(struct hb_optimizer *optimizer, struct hb_model *model,
                                  const struct hb_mesh *mesh, const struct hb_optimizer_config *config)
{
    *optimizer =
        (struct hb_optimizer){.context = model->context, .model = model, .mesh = mesh, .config = *config};
    hb_status status = init(optimizer);
    if (status != HB_OK)
        hb_optimizer_release(optimizer);
    return status;
}

hb_status hb_optimizer_init(struct hb_optimizer *optimizer, struct hb_model *model,
                            const struct hb_optimizer_config *config)
{
    return hb_optimizer_init_ranks(optimizer, model, NULL, config);
}

void hb_optimizer_release(struct hb_optimizer *o)
{
    if (!o->context)
        return;
    hb_free(o->context, o->squares.data);
    hb_free(o->context, o->order.data);
    hb_free(o->context, o->names.data);
    hb_free(o->context, o->sums.data);
    hb_free(o->context, o->chunk_hash.data);
    hb_free(o->context, o->verdict.data);
    hb_free(o->context, o->coef.data);
    hb_census_release(&o->census);
    *o = (struct hb_optimizer){0};
}

/* --- finite check, norm and clipping factor, left on the backend --- */

static hb_status whole_sums(struct hb_optimizer *o, float inv_scale)
{
    int64_t first = 0;
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        if (!param->trained)
            continue;
        HB_TRY(hb_sum(o->context, &(struct hb_sum_args){.x = param->use[0].root,
                                                        .squares = true,
                                                        .factor = inv_scale,
                                                        .out = hb_tensor_rows(o->squares, first,
                                                                              param->groups),
                                                        .found = o->found,
                                                        .extremes = o->extremes}));
        first += param->groups;
    }
    return HB_OK;
}

/* Chunks of one logical tensor: those of full size in one call, a short last one by itself. */
static hb_status chunk_sums(struct hb_optimizer *o, struct hb_tensor x, float inv_scale, int64_t at,
                            struct hb_tensor extremes)
{
    int64_t count = hb_tensor_count(&x), full = count / HB_CHUNK, rest = count % HB_CHUNK;
    x = hb_tensor_1d(x.home, x.data, x.dtype, count);
    struct hb_sum_args args = {.squares = true, .factor = inv_scale, .found = o->found,
                               .extremes = extremes};
    if (full) {
        args.x = hb_tensor_rows(x, 0, full * HB_CHUNK);
        args.out = hb_tensor_rows(o->sums, at, full);
        HB_TRY(hb_sum(o->context, &args));
    }
    if (!rest)
        return HB_OK;
    args.x = hb_tensor_rows(x, full * HB_CHUNK, rest);
    args.out = hb_tensor_rows(o->sums, at + full, 1);
    return hb_sum(o->context, &args);
}

static hb_status shard_sums(struct hb_optimizer *o, float inv_scale)
{
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        struct hb_extent extents[HB_EXTENTS_MAX];
        int64_t each = hb_param_chunks(param) / param->groups, part = hb_param_part_count(param);
        int count = param->trained ? hb_param_extents(param, param->shard, extents) : 0;
        /* A tied embedding is on two ranks of a pipe; one of them answers for it. */
        bool answers = hb_model_has_block(o->model, param->block);
        struct hb_tensor extremes = answers ? o->extremes : (struct hb_tensor){0};
        for (int i = 0; i < count; i++)
            for (int64_t g = 0; g < extents[i].groups; g++) {
                struct hb_range range = extents[i].range;
                int64_t at = o->census.first_chunk[p] + (extents[i].group + g) * each +
                             extents[i].first_chunk;
                if (extents[i].groups > 1)
                    range = (struct hb_range){range.begin + g * part, range.begin + (g + 1) * part};
                HB_TRY(chunk_sums(o, hb_param_elements(param, param->use[0].root, range), inv_scale, at,
                                  extremes));
            }
    }
    return HB_OK;
}

/* All ranks' chunk sums, added by the tree of each logical tensor. */
static hb_status world_squares(struct hb_optimizer *o)
{
    int64_t chunks = o->census.chunk_count, n = 0;
    double *local = malloc(hb_tensor_bytes(&o->sums) + 1), *all = malloc((size_t)chunks * sizeof *all);
    double *squares = malloc(hb_tensor_bytes(&o->squares) + 1);
    hb_status status;
    HB_TRY_CLEAN(local && all && squares ? HB_OK
                                         : HB_FAIL(HB_EMEMORY, "out of memory for the gradient's norm"));
    HB_TRY_CLEAN(hb_copy_out(o->context, local, o->sums));
    HB_TRY_CLEAN(hb_census_gather(&o->census, (const uint64_t *)local, (uint64_t *)all));
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        if (l->trained)
            squares[n++] = hb_tree_sum_f64(all + l->first_chunk, (l->count + HB_CHUNK - 1) / HB_CHUNK);
    }
    HB_TRY_CLEAN(hb_copy_in(o->context, o->squares, squares));
cleanup:
    free(local);
    free(all);
    free(squares);
    return status;
}

/* One rank's infinity is everybody's. */
static hb_status agree_on_found(struct hb_optimizer *o)
{
    int32_t found;
    int64_t sums[3];
    HB_TRY(hb_copy_out(o->context, &found, o->found));
    HB_TRY(hb_copy_out(o->context, sums, o->extremes));
    sums[2] = found;
    HB_TRY(hb_comm_sum(o->mesh->world, sums, 3));
    found = sums[2] > 0;
    HB_TRY(hb_copy_in(o->context, o->extremes, sums));
    return hb_copy_in(o->context, o->found, &found);
}

static hb_status judge(struct hb_optimizer *o, float inv_scale)
{
    HB_TRY(hb_zero(o->context, o->found));
    if (o->mesh) {
        HB_TRY(shard_sums(o, inv_scale));
        HB_TRY(agree_on_found(o));
        HB_TRY(world_squares(o));
    } else {
        HB_TRY(whole_sums(o, inv_scale));
    }
    return hb_clip(o->context, &(struct hb_clip_args){.squares = o->squares,
                                                      .order = o->order,
                                                      .max_norm = (float)o->config.clip,
                                                      .norm = o->norm,
                                                      .coef = o->coef});
}

/* --- the update --- */

/* The hashes of a piece's chunks. */
static struct hb_tensor hashes_of(const struct hb_optimizer *o, int64_t p, const struct hb_extent *extent)
{
    const struct hb_param *param = o->model->params[p];
    int64_t each = hb_param_chunks(param) / param->groups, count = extent->range.end - extent->range.begin;
    int64_t first = o->census.first_chunk[p] + extent->group * each + extent->first_chunk;
    return hb_tensor_rows(o->chunk_hash, first,
                          extent->groups > 1 ? extent->groups * each : (count + HB_CHUNK - 1) / HB_CHUNK);
}

/* What this rank updates: without sharding, and at level 0, everything. */
static struct hb_range updated(const struct hb_param *param)
{
    return param->level ? param->shard : (struct hb_range){0, hb_param_count(param)};
}

static struct hb_tensor weights_of(const struct hb_param *param)
{
    return param->level == 3 ? param->kept : param->value;
}

/* What takes the update and is hashed. */
static struct hb_tensor masters_of(const struct hb_param *param)
{
    return param->master.data ? param->master : weights_of(param);
}

static hb_status update(struct hb_optimizer *o, double rate, float inv_scale, bool digest)
{
    const struct hb_optimizer_config *c = &o->config;
    double s = (double)(o->applied + 1);
    struct hb_random stream = hb_random_stream(c->seed, HB_PURPOSE_ROUND, (uint64_t)o->attempted + 1, 0);
    int64_t first_name = 0;
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        if (!param->trained)
            continue;
        bool decay = param->decay || c->decay == HB_DECAY_ALL;
        struct hb_adamw_args args = {
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
            .key = (int64_t)((uint64_t)stream.key[1] << 32 | stream.key[0]),
        };
        struct hb_extent extents[HB_EXTENTS_MAX];
        int count = hb_param_extents(param, updated(param), extents);
        for (int i = 0; i < count; i++) {
            args.param = hb_param_elements(param, masters_of(param), extents[i].range);
            if (param->master.data)
                args.stored = hb_param_elements(param, weights_of(param), extents[i].range);
            else if (o->names.data && args.param.dtype != hb_real_dtype(o->context))
                args.names = hb_tensor_rows(o->names, first_name + extents[i].group, extents[i].groups);
            args.grad = hb_param_elements(param, param->use[0].root, extents[i].range);
            args.m = hb_param_elements(param, param->m, extents[i].range);
            args.v = hb_param_elements(param, param->v, extents[i].range);
            args.groups = extents[i].groups;
            args.first = extents[i].first_chunk * HB_CHUNK;
            args.chunk_hash = digest ? hashes_of(o, p, &extents[i]) : (struct hb_tensor){0};
            HB_TRY(hb_adamw(o->context, &args));
        }
        first_name += param->groups;
        HB_TRY(hb_fault_point(HB_FAULT_OPTIMIZER));
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

/* The hashes of parameters, or only of those that no update hashes. */
static hb_status hash(struct hb_optimizer *o, bool all)
{
    for (int64_t p = 0; p < o->model->param_count; p++) {
        struct hb_param *param = o->model->params[p];
        struct hb_extent extents[HB_EXTENTS_MAX];
        int count = all || !param->trained ? hb_param_extents(param, updated(param), extents) : 0;
        for (int i = 0; i < count; i++)
            HB_TRY(hb_digest(o->context,
                             &(struct hb_digest_args){
                                 .x = hb_param_elements(param, masters_of(param), extents[i].range),
                                 .groups = extents[i].groups,
                                 .chunk_hash = hashes_of(o, p, &extents[i])}));
    }
    return HB_OK;
}

static hb_status read_verdict(struct hb_optimizer *o, struct hb_verdict *verdict)
{
    struct scalars scalars;
    HB_TRY(hb_copy_out(o->context, &scalars, o->verdict));
    verdict->grad_norm = scalars.norm;
    verdict->overflow = scalars.extremes[0];
    verdict->underflow = scalars.extremes[1];
    verdict->skipped = verdict->nonfinite = scalars.found != 0;
    return HB_OK;
}

/* The host's word on the update, before it. */
static hb_status overrule(struct hb_optimizer *o, struct hb_verdict *verdict)
{
    HB_TRY(read_verdict(o, verdict));
    if (verdict->nonfinite)
        verdict->skipped = !o->unguarded;
    else if (o->veto)
        verdict->skipped = o->veto(o->veto_context, verdict->grad_norm);
    int32_t found = verdict->skipped;
    return hb_copy_in(o->context, o->found, &found);
}

hb_status hb_optimizer_step(struct hb_optimizer *o, float scale, struct hb_tensor counts, bool digest,
                            struct hb_verdict *verdict)
{
    float inv_scale = 1 / scale;
    verdict->learning_rate = hb_rate_at(&o->config.schedule, o->applied + 1);
    HB_TRY(judge(o, inv_scale));
    bool early = o->unguarded || o->veto; /* otherwise the host waits for nothing */
    if (early)
        HB_TRY(overrule(o, verdict));
    HB_TRY(update(o, verdict->learning_rate, inv_scale, digest));
    if (counts.data)
        HB_TRY(move_selection_bias(o, counts));
    if (digest)
        HB_TRY(hash(o, false));
    if (!early)
        HB_TRY(read_verdict(o, verdict));
    o->attempted++;
    if (!verdict->skipped)
        o->applied++;
    return HB_OK;
}

hb_status hb_optimizer_digest(struct hb_optimizer *o, bool fresh, char text[HB_DIGEST_TEXT + 1])
{
    if (fresh)
        HB_TRY(hash(o, true));
    int64_t chunks = o->census.chunk_count;
    uint64_t *local = malloc(hb_tensor_bytes(&o->chunk_hash) + 1),
             *hashes = malloc((size_t)chunks * sizeof *hashes);
    struct hb_digest digest = {0};
    hb_status status;
    HB_TRY_CLEAN(local && hashes ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the digest"));
    HB_TRY_CLEAN(hb_copy_out(o->context, local, o->chunk_hash));
    HB_TRY_CLEAN(hb_census_gather(&o->census, local, hashes));
    HB_TRY_CLEAN(hb_digest_init(&digest, HB_NUMERICS_VERSION));
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        for (int64_t c = 0; c < (l->count + HB_CHUNK - 1) / HB_CHUNK; c++)
            hb_digest_add_chunk(&digest, l->name, (uint64_t)c, hashes[l->first_chunk + c]);
    }
    hb_digest_value(&digest, text);
cleanup:
    if (status == HB_OK)
        hb_digest_release(&digest);
    free(local);
    free(hashes);
    return status;
}
