/* Level 3: the weights of a block from their shards, while the block is at work.
 *
 * A unit's weights stand in one buffer, parameter behind parameter, so that every
 * rank's shard is a run of it: where tensors travel themselves (parallel/wire.h), shards are sent from their
 * place and come to it. */
#include <stdlib.h>

#include "parallel/shard.h"

/* Where a parameter begins in its unit's buffer, if the one before ends at `at`: as aligned as memory of its
 * own. Widths that are multiples of 32 leave no gap. */
static size_t place(size_t at)
{
    enum { LINE = 64 };
    return (at + LINE - 1) / LINE * LINE;
}

/* Bytes from the buffer's begin to where rank r's shard begins, for r of [0, ranks];
 * a shard ends where the next one begins. */
static void find_shards(const struct hb_sharding *s, const struct hb_unit *unit, int ranks, size_t *begin)
{
    size_t at = 0;
    int r = 0;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        const struct hb_param *param = s->model->params[i];
        if (param->level < 3)
            continue;
        at = place(at);
        for (; r < ranks; r++) {
            struct hb_range range = hb_shard_of(param, ranks, r);
            if (range.begin == hb_param_count(param))
                break; /* it begins in one of the next */
            begin[r] = at + (size_t)range.begin * hb_dtype_size(param->value.dtype);
        }
        at += hb_tensor_bytes(&param->value);
    }
    for (; r <= ranks; r++)
        begin[r] = at;
}

/* The buffer, and in it the parameters. */
static hb_status take(struct hb_sharding *s, struct hb_unit *unit, size_t bytes)
{
    size_t at = 0;
    HB_TRY(hb_pool_take(&s->pool, bytes, &unit->gathered));
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        struct hb_param *param = s->model->params[i];
        if (param->level < 3)
            continue;
        at = place(at);
        param->value.data = (char *)unit->gathered->data + at;
        at += hb_tensor_bytes(&param->value);
        HB_TRY(hb_param_call(s->model->context, param));
    }
    return HB_OK;
}

/* This rank's shard to its place, from where the others get it. */
static hb_status put_own(struct hb_sharding *s, const struct hb_unit *unit)
{
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        const struct hb_param *param = s->model->params[i];
        if (param->level < 3 || param->shard.begin == param->shard.end)
            continue;
        struct hb_tensor own = hb_param_elements(param, param->value, param->shard);
        if (unit->staging) {
            size_t at = (size_t)((char *)own.data - (char *)unit->gathered->data);
            HB_TRY(hb_wire_put(&s->mesh->wire, unit->staging + at, param->kept));
        } else {
            HB_TRY(hb_copy(s->model->context, own, param->kept));
        }
    }
    return HB_OK;
}

static hb_status start(struct hb_sharding *s, struct hb_unit *unit)
{
    int ranks = hb_comm_size(unit->group), self = hb_comm_rank(unit->group);
    size_t *begin = calloc((size_t)ranks + 1, sizeof *begin), *bytes = calloc((size_t)ranks, sizeof *bytes);
    void *staging = NULL;
    hb_status status;
    HB_TRY_CLEAN(begin && bytes ? HB_OK
                                : HB_FAIL(HB_EMEMORY, "out of memory for a gather of %d ranks", ranks));
    find_shards(s, unit, ranks, begin);
    for (int r = 0; r < ranks; r++)
        bytes[r] = begin[r + 1] - begin[r];
    HB_TRY_CLEAN(take(s, unit, begin[ranks]));
    if (!hb_wire_is_direct(&s->mesh->wire))
        HB_TRY_CLEAN(hb_wire_alloc(&s->mesh->wire, begin[ranks], &staging));
    unit->staging = staging;
    HB_TRY_CLEAN(put_own(s, unit));
    char *all = staging ? staging : unit->gathered->data;
    HB_TRY_CLEAN(hb_comm_gather_begin(unit->group, all + begin[self], all, bytes, &unit->pending));
    unit->under_way = true;
cleanup:
    free(begin);
    free(bytes);
    return status;
}

static hb_status finish(struct hb_sharding *s, struct hb_unit *unit)
{
    if (!unit->under_way)
        return HB_OK;
    HB_TRY(hb_comm_gather_end(unit->group, &unit->pending));
    unit->under_way = false;
    if (!unit->staging)
        return HB_OK;
    struct hb_tensor all = hb_tensor_1d(s->model->context, unit->gathered->data, HB_U8,
                                        (int64_t)unit->gathered->asked);
    hb_status status = hb_wire_get(&s->mesh->wire, all, unit->staging);
    hb_wire_free(&s->mesh->wire, unit->staging);
    unit->staging = NULL;
    return status;
}

static void let_go(struct hb_sharding *s, struct hb_unit *unit)
{
    if (--unit->holders)
        return;
    hb_pool_drop(&s->pool, unit->gathered);
    unit->gathered = NULL;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++)
        if (s->model->params[i]->level == 3)
            s->model->params[i]->value.data = NULL;
}

/* Does a block among [begin, end) need the unit? The tied head needs the embedding. */
static bool needed(const struct hb_sharding *s, const struct hb_unit *unit, int64_t begin, int64_t end)
{
    int64_t last = s->model->block_count - 1;
    bool tied = s->model->config.tie_word_embeddings && unit->block == 0 && begin <= last && last < end;
    return s->level == 3 && hb_comm_size(unit->group) > 1 &&
           ((begin <= unit->block && unit->block < end) || tied);
}

hb_status hb_blocks_ahead(struct hb_sharding *s, int64_t begin, int64_t end)
{
    for (int64_t u = 0; u < s->unit_count; u++) {
        struct hb_unit *unit = &s->units[u];
        if (!needed(s, unit, begin, end) || unit->ahead)
            continue;
        if (unit->holders++ == 0)
            HB_TRY(start(s, unit));
        unit->ahead = true;
    }
    return HB_OK;
}

hb_status hb_blocks_gather(struct hb_sharding *s, int64_t begin, int64_t end)
{
    HB_TRY(hb_blocks_ahead(s, begin, end));
    for (int64_t u = 0; u < s->unit_count; u++) {
        struct hb_unit *unit = &s->units[u];
        if (!needed(s, unit, begin, end))
            continue;
        unit->ahead = false; /* its hold is now the caller's */
        HB_TRY(finish(s, unit));
    }
    return HB_OK;
}

void hb_blocks_release(struct hb_sharding *s, int64_t begin, int64_t end)
{
    for (int64_t u = 0; u < s->unit_count; u++)
        if (needed(s, &s->units[u], begin, end) && s->units[u].holders)
            let_go(s, &s->units[u]);
}

void hb_unshard_release(struct hb_sharding *s)
{
    for (int64_t u = 0; u < s->unit_count; u++) {
        struct hb_unit *unit = &s->units[u];
        hb_comm_drop(&unit->pending);
        hb_wire_free(&s->mesh->wire, unit->staging);
        if (!unit->holders)
            continue;
        unit->holders = 1;
        let_go(s, unit);
    }
}
