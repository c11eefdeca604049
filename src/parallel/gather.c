/* From shards to whole tensors. Bytes are moved as they are. */
#include <stdlib.h>

#include "parallel/shard.h"

static struct hb_tensor target(const struct hb_param *param, enum hb_gathered what)
{
    return what == HB_GATHER_ROOTS ? param->use[0].root : param->value;
}

static struct hb_tensor source(const struct hb_param *param, enum hb_gathered what)
{
    return what == HB_GATHER_WEIGHTS && param->level == 3 ? param->kept : target(param, what);
}

static size_t shard_bytes(const struct hb_param *param, enum hb_gathered what, struct hb_range range)
{
    struct hb_tensor t = hb_tensor_1d(NULL, NULL, target(param, what).dtype, range.end - range.begin);
    return hb_tensor_bytes(&t);
}

hb_status hb_gather_unit(struct hb_sharding *s, const struct hb_unit *unit, enum hb_gathered what)
{
    struct hb_context *context = s->model->context;
    int ranks = hb_comm_size(unit->group), self = hb_comm_rank(unit->group);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes), all = 0;
    if (!bytes)
        return HB_FAIL(HB_EMEMORY, "out of memory for a gather of %d ranks", ranks);
    for (int r = 0; r < ranks; r++) {
        for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
            const struct hb_param *param = s->model->params[i];
            if (param->trained)
                bytes[r] += shard_bytes(param, what, hb_shard_of(param, ranks, r));
        }
        all += bytes[r];
    }
    hb_status status;
    HB_TRY_CLEAN(hb_sharding_stage(s, bytes[self], all));
    char *at = s->send;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        const struct hb_param *param = s->model->params[i];
        if (!param->trained || param->shard.begin == param->shard.end)
            continue;
        struct hb_tensor own = hb_param_elements(param, source(param, what), param->shard);
        HB_TRY_CLEAN(hb_copy_out(context, at, own));
        at += hb_tensor_bytes(&own);
    }
    HB_TRY_CLEAN(hb_comm_gather(unit->group, s->send, s->recv, bytes));
    at = s->recv;
    for (int r = 0; r < ranks; r++)
        for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
            const struct hb_param *param = s->model->params[i];
            struct hb_range range = hb_shard_of(param, ranks, r);
            if (!param->trained || range.begin == range.end)
                continue;
            struct hb_tensor part = hb_param_elements(param, target(param, what), range);
            if (r != self || target(param, what).data != source(param, what).data)
                HB_TRY_CLEAN(hb_copy_in(context, part, at));
            at += hb_tensor_bytes(&part);
        }
cleanup:
    free(bytes);
    return status;
}

/* --- level 3 --- */

static hb_status hold(struct hb_sharding *s, struct hb_unit *unit)
{
    if (unit->holders++)
        return HB_OK;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        struct hb_param *param = s->model->params[i];
        if (param->level < 3)
            continue;
        HB_TRY(hb_pool_take(&s->pool, hb_tensor_bytes(&param->value), &param->gathered));
        param->value.data = param->gathered->data;
    }
    return hb_gather_unit(s, unit, HB_GATHER_WEIGHTS);
}

static void let_go(struct hb_sharding *s, struct hb_unit *unit)
{
    if (--unit->holders)
        return;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        struct hb_param *param = s->model->params[i];
        hb_pool_drop(&s->pool, param->gathered);
        param->gathered = NULL;
        if (param->level == 3)
            param->value.data = NULL;
    }
}

/* Does a block among [begin, end) need the unit? The tied head needs the embedding. */
static bool needed(const struct hb_sharding *s, const struct hb_unit *unit, int64_t begin, int64_t end)
{
    int64_t last = s->model->block_count - 1;
    bool tied = s->model->config.tie_word_embeddings && unit->block == 0 && begin <= last && last < end;
    return s->level == 3 && hb_comm_size(unit->group) > 1 &&
           ((begin <= unit->block && unit->block < end) || tied);
}

hb_status hb_blocks_gather(struct hb_sharding *s, int64_t begin, int64_t end)
{
    for (int64_t u = 0; u < s->unit_count; u++)
        if (needed(s, &s->units[u], begin, end))
            HB_TRY(hold(s, &s->units[u]));
    return HB_OK;
}

void hb_blocks_release(struct hb_sharding *s, int64_t begin, int64_t end)
{
    for (int64_t u = 0; u < s->unit_count; u++)
        if (needed(s, &s->units[u], begin, end) && s->units[u].holders)
            let_go(s, &s->units[u]);
}
