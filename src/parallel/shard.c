#include "parallel/shard.h"

#include <stdlib.h>

static bool is_stack(const struct hb_param *param)
{
    return param->name_after[0] != '\0';
}

struct hb_range hb_shard_of(const struct hb_param *param, int64_t ranks, int64_t r)
{
    struct hb_range share = hb_share(param->unit_chunks, ranks, r);
    int64_t chunks = hb_param_chunks(param);
    int64_t begin = share.begin - param->unit_first, end = share.end - param->unit_first;
    begin = begin < 0 ? 0 : begin > chunks ? chunks : begin;
    end = end < begin ? begin : end > chunks ? chunks : end;
    return (struct hb_range){hb_param_chunk_begin(param, begin), hb_param_chunk_begin(param, end)};
}

/* Parameters stand in block order, in a block the dense ones before the experts. */
static hb_status list_units(struct hb_sharding *s)
{
    struct hb_param **params = s->model->params;
    s->units = calloc((size_t)s->model->param_count + 1, sizeof *s->units);
    if (!s->units)
        return HB_FAIL(HB_EMEMORY, "out of memory for the units of parameters");
    for (int64_t p = 0; p < s->model->param_count;) {
        struct hb_unit *unit = &s->units[s->unit_count++];
        *unit = (struct hb_unit){.first = p, .block = params[p]->block, .experts = is_stack(params[p])};
        unit->group = unit->experts ? s->mesh->wire.replicas : s->mesh->wire.data;
        while (p < s->model->param_count && params[p]->block == unit->block &&
               is_stack(params[p]) == unit->experts)
            p++;
        unit->count = p - unit->first;
    }
    return HB_OK;
}

static void divide(const struct hb_sharding *s, const struct hb_unit *unit)
{
    int64_t ranks = hb_comm_size(unit->group), chunks = 0;
    struct hb_param **params = s->model->params + unit->first;
    for (int64_t i = 0; i < unit->count; i++) {
        params[i]->unit_first = chunks;
        chunks += hb_param_chunks(params[i]);
    }
    for (int64_t i = 0; i < unit->count; i++) {
        params[i]->unit_chunks = chunks;
        params[i]->level = ranks > 1 && params[i]->trained ? s->level : 0;
        params[i]->shard = hb_shard_of(params[i], ranks, hb_comm_rank(unit->group));
    }
}

hb_status hb_sharding_init(struct hb_sharding *sharding, struct hb_model *model, const struct hb_mesh *mesh,
                           int level)
{
    *sharding = (struct hb_sharding){.model = model, .mesh = mesh, .level = level};
    hb_pool_init(&sharding->pool, model->context, HB_MEMORY_GATHERED);
    HB_TRY(list_units(sharding));
    for (int64_t u = 0; u < sharding->unit_count; u++)
        divide(sharding, &sharding->units[u]);
    return HB_OK;
}

void hb_sharding_release(struct hb_sharding *sharding)
{
    if (!sharding->model)
        return;
    hb_unshard_release(sharding);
    hb_pool_release(&sharding->pool);
    hb_wire_free(&sharding->mesh->wire, sharding->send);
    hb_wire_free(&sharding->mesh->wire, sharding->recv);
    free(sharding->units);
    *sharding = (struct hb_sharding){0};
}

hb_status hb_sharding_stage(struct hb_sharding *sharding, size_t send, size_t recv)
{
    const struct hb_wire *wire = &sharding->mesh->wire;
    HB_TRY(hb_wire_grow(wire, &sharding->send, &sharding->send_size, send));
    return hb_wire_grow(wire, &sharding->recv, &sharding->recv_size, recv);
}
